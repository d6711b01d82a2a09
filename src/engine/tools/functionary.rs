//! Functionary: v3.1 `<function=name>{...}</function>`, v3.2 `>>>name` and a line of JSON.

use serde_json::Value as Json;

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, json_of, text};

pub(super) const V31: ToolSyntax = ToolSyntax {
    name: "functionary-v3.1",
    is_of: |source| source.contains("<function=") && source.contains("</function>"),
    opens: &[("<function=", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

pub(super) const V32: ToolSyntax = ToolSyntax {
    name: "functionary-v3.2",
    is_of: |source| source.contains(">>>all"),
    opens: &[(">>>", false)],
    marks: &[],
    before_thinking: false,
    begun: true,
    read: read_v32,
    grammar: v32_grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<function=")?;
    let name = reader.until(">")?.to_owned();
    let arguments = object(reader)?;
    reader.close("</function>")?;
    Ok(vec![ToolCall { name, arguments }])
}

/// `>>>all` is text for the user.
fn read_v32(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark(">>>")?;
    let name = reader.name()?.to_owned();
    reader.mark("\n")?;
    if name == "all" {
        return Ok(Vec::new());
    }
    if !tools.has(&name) {
        return Err(Stop::Not);
    }
    Ok(vec![ToolCall { name, arguments: object(reader)? }])
}

fn object(reader: &mut Reader<'_>) -> Read<String> {
    let arguments = reader.json()?;
    if arguments.is_object() { Ok(arguments_text(&arguments)) } else { Err(Stop::Not) }
}

fn grammar(tools: &Tools, _: &Marks<'_>) -> String {
    let one = |(name, schema): (&str, &Json)| format!("{} {}", text(&format!("{name}>")), json_of(schema));
    let all = tools.callable().map(one).collect::<Vec<_>>().join(" | ");
    format!("start: body \"</function>\"\nbody: {all}\n")
}

fn v32_grammar(tools: &Tools, _: &Marks<'_>) -> String {
    let one = |(name, schema): (&str, &Json)| format!("{} {}", text(&format!("{name}\n")), json_of(schema));
    format!("start: {}\n", tools.callable().map(one).collect::<Vec<_>>().join(" | "))
}
