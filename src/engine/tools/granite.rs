//! Granite 3: `<|tool_call|>[{"name": ..., "arguments": {...}}, ...]`, also with `<tool_call>` as its mark.

use serde_json::{Value as Json, json};

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call_of, json_of, named_objects};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "granite",
    is_of: |source| source.contains("<|tool_call|>"),
    opens: &[("<|tool_call|>", false), ("<tool_call>", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    if !reader.optional("<|tool_call|>")? {
        reader.mark("<tool_call>")?;
    }
    list(reader)
}

/// An array of calls, or one alone.
pub(super) fn list(reader: &mut Reader<'_>) -> Read<Vec<ToolCall>> {
    let calls = match reader.json()? {
        Json::Array(items) => items.iter().map(call_of).collect(),
        item @ Json::Object(_) => call_of(&item).map(|call| vec![call]),
        _ => None,
    };
    calls.ok_or(Stop::Not)
}

/// An array of calls, in Lark.
pub(super) fn array_of(tools: &Tools, name: &str, arguments: &str) -> String {
    json_of(&array_with(tools, &named_objects(tools, name, arguments)))
}

/// The schema of an array of such objects: one, or several where they are allowed.
pub(super) fn array_with(tools: &Tools, objects: &Json) -> Json {
    let mut schema = json!({ "type": "array", "items": objects, "minItems": 1 });
    if !tools.parallel {
        schema["maxItems"] = 1.into();
    }
    schema
}

fn grammar(tools: &Tools, _: &Marks<'_>) -> String {
    format!("start: {}\n", array_of(tools, "name", "arguments"))
}
