//! Hermes, Qwen 2.5 and 3, Granite 4 and many others: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call_of, json_of, named_objects};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "hermes",
    is_of: |source| source.contains("<tool_call>"),
    opens: &[("<tool_call>", false)],
    marks: &["</tool_call>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<tool_call>")?;
    let call = call_of(&reader.json()?).ok_or(Stop::Not)?;
    reader.close("</tool_call>")?;
    Ok(vec![call])
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let object = json_of(&named_objects(tools, "name", "arguments"));
    format!("start: /\\n?/ call /\\n?/ {}\ncall: {object}\n", marks.lark("</tool_call>"))
}
