//! Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`, and since the end of 2024 `[TOOL_CALLS]name[ARGS]{...}`, with
//! `[CALL_ID]` between in some.

use serde_json::Value as Json;

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, granite, json_of, text};

const MARKS: &[&str] = &["[ARGS]", "[CALL_ID]"];

pub(super) const NEW: ToolSyntax = ToolSyntax {
    name: "mistral",
    is_of: |source| source.contains("[TOOL_CALLS]") && source.contains("[ARGS]"),
    opens: &[("[TOOL_CALLS]", false)],
    marks: MARKS,
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

pub(super) const OLD: ToolSyntax = ToolSyntax {
    name: "mistral-list",
    is_of: |source| source.contains("[TOOL_CALLS]"),
    opens: &[("[TOOL_CALLS]", false)],
    marks: MARKS,
    before_thinking: false,
    begun: false,
    read,
    grammar: list_grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("[TOOL_CALLS]")?;
    reader.space();
    if matches!(reader.peek()?, '[' | '{') {
        return granite::list(reader);
    }
    let name = reader.name()?.to_owned();
    if reader.optional("[CALL_ID]")? {
        reader.until("[ARGS]")?;
    } else {
        // Some models leave the mark out.
        reader.optional("[ARGS]")?;
    }
    let arguments = reader.json()?;
    if !matches!(arguments, Json::Object(_) | Json::String(_)) {
        return Err(Stop::Not);
    }
    Ok(vec![ToolCall { name, arguments: arguments_text(&arguments) }])
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let one = |(name, schema): (&str, &Json)| format!("{} {} {}", text(name), marks.lark("[ARGS]"), json_of(schema));
    format!("start: {}\n", tools.callable().map(one).collect::<Vec<_>>().join(" | "))
}

fn list_grammar(tools: &Tools, _: &Marks<'_>) -> String {
    format!("start: {}\n", granite::array_of(tools, "name", "arguments"))
}
