//! Llama 3.1 to 3.3: a bare `{"name": ..., "parameters": {...}}` at the beginning of the answer, or after `<|python_tag|>`; several
//! with semicolons between them.

use serde_json::Value as Json;

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call_of, json_of, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "llama3",
    is_of: |source| {
        let knows = source.contains("<|python_tag|>") || source.contains("ipython");
        knows && !source.contains("<tool_call>")
    },
    opens: &[("{", true), ("<|python_tag|>", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.optional("<|python_tag|>")?;
    let mut calls = Vec::new();
    loop {
        let object = reader.json()?;
        let is_call = object.get("parameters").is_some() || object.get("arguments").is_some();
        calls.push(call_of(&object).filter(|_| is_call).ok_or(Stop::Not)?);
        reader.space();
        if reader.is_at_end() || !reader.optional(";")? {
            return Ok(calls);
        }
    }
}

/// After the opening brace.
fn grammar(tools: &Tools, _: &Marks<'_>) -> String {
    let one = |(name, schema): (&str, &Json)| {
        format!("{} {}", text(&format!("\"name\": {}, \"parameters\": ", Json::from(name))), json_of(schema))
    };
    let all = tools.callable().map(one).collect::<Vec<_>>().join(" | ");
    format!("start: \" \"? body \" \"? \"}}\"\nbody: {all}\n")
}
