//! Command R7B and A: `<|START_ACTION|>[{"tool_call_id": "0", "tool_name": ..., "parameters": {...}}]<|END_ACTION|>`; Command R and
//! R+: `Action:` and a block of Markdown with such a list.

use serde_json::json;

use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, granite, json_of, named_objects};

pub(super) const R7B: ToolSyntax = ToolSyntax {
    name: "command-r7b",
    is_of: |source| source.contains("<|START_ACTION|>"),
    opens: &[("<|START_ACTION|>", false)],
    marks: &["<|END_ACTION|>"],
    before_thinking: false,
    begun: false,
    read: read_r7b,
    grammar: r7b_grammar,
};

pub(super) const R: ToolSyntax = ToolSyntax {
    name: "command-r",
    is_of: |source| source.contains("Action:") && source.contains("tool_name"),
    opens: &[("Action:", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read_r7b(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<|START_ACTION|>")?;
    let calls = granite::list(reader)?;
    reader.close("<|END_ACTION|>")?;
    Ok(without_answers(calls))
}

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("Action:")?;
    reader.space();
    reader.mark("```json")?;
    let calls = granite::list(reader)?;
    reader.close("```")?;
    Ok(without_answers(calls))
}

/// A direct answer is no call.
fn without_answers(mut calls: Vec<ToolCall>) -> Vec<ToolCall> {
    calls.retain(|call| call.name != "directly_answer" && call.name != "directly-answer");
    calls
}

/// Calls have numbers as their ids.
fn r7b_grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut objects = named_objects(tools, "tool_name", "parameters");
    for object in objects["anyOf"].as_array_mut().into_iter().flatten() {
        let mut properties = serde_json::Map::new();
        properties.insert("tool_call_id".to_owned(), json!({ "type": "string", "pattern": "^[0-9]{1,3}$" }));
        properties.extend(object["properties"].as_object().cloned().unwrap_or_default());
        object["properties"] = properties.into();
        object["required"] = json!(["tool_call_id", "tool_name", "parameters"]);
    }
    let list = granite::array_with(tools, &objects);
    format!("start: list \"\\n\"? {}\nlist: {}\n", marks.lark("<|END_ACTION|>"), json_of(&list))
}

fn grammar(tools: &Tools, _: &Marks<'_>) -> String {
    let list = granite::array_of(tools, "tool_name", "parameters");
    format!("start: (\"\\n\" | \" \")? \"```json\\n\" list \"\\n\"? \"```\"\nlist: {list}\n")
}
