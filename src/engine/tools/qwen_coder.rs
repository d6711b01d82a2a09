//! Qwen 3 Coder, Qwen 3.5, Nemotron 3, Step 3.5 and Seed: `<tool_call><function=f><parameter=p>value</parameter></function></tool_call>`.

use serde_json::{Map, Value as Json};

use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, json_of, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "qwen3-coder",
    is_of: |source| source.contains("<function=") && source.contains("<parameter="),
    opens: &[("<tool_call>", false), ("<function=", false)],
    marks: &["</tool_call>"],
    before_thinking: false,
    read,
    grammar: Some(grammar),
};

pub(super) const SEED: ToolSyntax = ToolSyntax {
    name: "seed",
    is_of: |source| source.contains("<seed:tool_call>"),
    opens: &[("<seed:tool_call>", false)],
    marks: &["</seed:tool_call>"],
    before_thinking: false,
    read: read_seed,
    grammar: None,
};

fn read(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    let marked = reader.optional("<tool_call>")?;
    reader.space();
    let call = function(reader, tools)?;
    if marked {
        reader.close("</tool_call>")?;
    }
    Ok(vec![call])
}

fn read_seed(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<seed:tool_call>")?;
    reader.space();
    let call = function(reader, tools)?;
    reader.close("</seed:tool_call>")?;
    Ok(vec![call])
}

fn function(reader: &mut Reader<'_>, tools: &Tools) -> Read<ToolCall> {
    reader.mark("<function=")?;
    let name = reader.until(">")?.trim();
    let mut arguments = Map::new();
    loop {
        reader.space();
        if reader.optional("</function>")? {
            return Ok(call(name, arguments));
        }
        reader.mark("<parameter=")?;
        let parameter = reader.until(">")?.trim();
        let value = reader.until("</parameter>")?;
        // A line break on both sides is part of the marks.
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(parameter.to_owned(), tools.value(name, parameter, value));
    }
}

/// Parameters in the order of the schema; texts end with the closing mark.
#[allow(clippy::unnecessary_wraps, reason = "the type of all grammars")]
fn grammar(tools: &Tools, marks: &Marks<'_>) -> Option<String> {
    let (mut rules, mut functions) = (String::new(), Vec::new());
    for (i, (name, schema)) in tools.callable().enumerate() {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let mut parts = Vec::new();
        for (j, (parameter, schema)) in schema["properties"].as_object().into_iter().flatten().enumerate() {
            let rule = format!("p{i}_{j}");
            let open = text(&format!("<parameter={parameter}>\n"));
            let value = if schema["type"] == "string" && schema.get("enum").is_none() {
                "textual".to_owned()
            } else {
                format!("v{i}_{j} \"\\n</parameter>\\n\"\nv{i}_{j}: {}", any_json(schema))
            };
            rules.push_str(&format!("{rule}: {open} {value}\n"));
            parts.push(if required.contains(&parameter.as_str()) { rule } else { format!("{rule}?") });
        }
        functions.push(format!("{} {}", text(&format!("{name}>\n")), parts.join(" ")));
    }
    let functions = functions.join(" | ");
    Some(format!(
        "start: /\\n?/ \"<function=\" body \"</function>\\n\" {}\nbody: {functions}\ntextual[suffix=\"\\n</parameter>\\n\"]: /(.|\\n)*/\n{rules}",
        marks.lark("</tool_call>")
    ))
}

/// A value; strings of an enumeration are written without quotes.
fn any_json(schema: &Json) -> String {
    let texts: Option<Vec<&str>> =
        schema.get("enum").and_then(|all| all.as_array()?.iter().map(Json::as_str).collect());
    match texts {
        Some(texts) => texts.into_iter().map(text).collect::<Vec<_>>().join(" | "),
        None => json_of(schema),
    }
}
