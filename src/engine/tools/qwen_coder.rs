//! Qwen 3 Coder, Qwen 3.5, Nemotron 3, Step 3.5 and Seed: `<tool_call><function=f><parameter=p>value</parameter></function></tool_call>`.

use serde_json::Map;

use super::grammar::Rules;
use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "qwen3-coder",
    is_of: |source| source.contains("<function=") && source.contains("<parameter="),
    opens: &[("<tool_call>", false), ("<function=", false)],
    marks: &["</tool_call>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

pub(super) const SEED: ToolSyntax = ToolSyntax {
    name: "seed",
    is_of: |source| source.contains("<seed:tool_call>"),
    opens: &[("<seed:tool_call>", false)],
    marks: &["</seed:tool_call>"],
    before_thinking: false,
    begun: false,
    read: read_seed,
    grammar: seed_grammar,
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

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    // The models write line breaks on both sides of a value.
    let call = functions(&mut rules, tools, ["\n", "\n</parameter>\n"]);
    rules.grammar(&format!("\"\\n\"? {call} \"\\n\"? {}", marks.lark("</tool_call>")))
}

fn seed_grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let call = functions(&mut rules, tools, ["", "</parameter>"]);
    rules.grammar(&format!("\"\\n\"? {call} \"\\n\"? {}", marks.lark("</seed:tool_call>")))
}

/// Any call, with what stands before and after a value.
fn functions(rules: &mut Rules<'_, '_>, tools: &Tools, [before, after]: [&str; 2]) -> String {
    rules.any_tool(tools, |rules, name, schema| {
        let arguments = rules.parameters(schema, |rules, parameter| match parameter {
            Some(parameter) => {
                let open = text(&format!("<parameter={}>{before}", parameter.name));
                format!("{open} {} \"\\n\"?", rules.bare(&parameter.schema, after))
            }
            None => {
                let name = rules.until("[^<>\\n]+", &format!(">{before}"));
                format!("\"<parameter=\" {name} {} \"\\n\"?", rules.any_bare(after))
            }
        });
        format!("{} \"\\n\"? {arguments} \"</function>\"", text(&format!("<function={name}>")))
    })
}
