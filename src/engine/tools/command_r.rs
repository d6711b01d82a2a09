//! Command R7B and A: `<|START_ACTION|>[{"tool_call_id": "0", "tool_name": ..., "parameters": {...}}]<|END_ACTION|>`; Command R and
//! R+: `Action:` and a block of Markdown with such a list.

use super::reader::{Read, Reader};
use super::{ToolCall, ToolSyntax, Tools, granite};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "command-r",
    is_of: |source| source.contains("<|START_ACTION|>") || source.contains("Action:") && source.contains("tool_name"),
    opens: &[("<|START_ACTION|>", false), ("Action:", false)],
    marks: &["<|END_ACTION|>"],
    before_thinking: false,
    read,
    grammar: None,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    let mut calls = if reader.optional("<|START_ACTION|>")? {
        let calls = granite::list(reader)?;
        reader.close("<|END_ACTION|>")?;
        calls
    } else {
        reader.mark("Action:")?;
        reader.space();
        reader.mark("```json")?;
        let calls = granite::list(reader)?;
        reader.close("```")?;
        calls
    };
    // A direct answer is no call.
    calls.retain(|call| call.name != "directly_answer" && call.name != "directly-answer");
    Ok(calls)
}
