//! Apriel: `<tool_calls>[{"name": ..., "arguments": {...}}, ...]</tool_calls>`.

use super::reader::{Read, Reader};
use super::{ToolCall, ToolSyntax, Tools, granite};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "tool-calls",
    is_of: |source| source.contains("<tool_calls>["),
    opens: &[("<tool_calls>", false)],
    marks: &["</tool_calls>"],
    before_thinking: false,
    read,
    grammar: None,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<tool_calls>")?;
    let calls = granite::list(reader)?;
    reader.close("</tool_calls>")?;
    Ok(calls)
}
