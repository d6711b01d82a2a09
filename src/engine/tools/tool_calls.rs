//! Apriel: `<tool_calls>[{"name": ..., "arguments": {...}}, ...]</tool_calls>`.

use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, granite};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "tool-calls",
    is_of: |source| source.contains("<tool_calls>["),
    opens: &[("<tool_calls>", false)],
    marks: &["</tool_calls>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<tool_calls>")?;
    let calls = granite::list(reader)?;
    reader.close("</tool_calls>")?;
    Ok(calls)
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let list = granite::array_of(tools, "name", "arguments");
    format!("start: list {}\nlist: {list}\n", marks.lark("</tool_calls>"))
}
