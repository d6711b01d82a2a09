//! Nemotron Nano 2: `<TOOLCALL>[{"name": ..., "arguments": {...}}, ...]</TOOLCALL>`.

use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, granite};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "nemotron-nano",
    is_of: |source| source.contains("<TOOLCALL>"),
    opens: &[("<TOOLCALL>", false)],
    marks: &["</TOOLCALL>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<TOOLCALL>")?;
    let calls = granite::list(reader)?;
    reader.close("</TOOLCALL>")?;
    Ok(calls)
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let list = granite::array_of(tools, "name", "arguments");
    format!("start: list {}\nlist: {list}\n", marks.lark("</TOOLCALL>"))
}
