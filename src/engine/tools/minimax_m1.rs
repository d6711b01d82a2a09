//! MiniMax M1: `<tool_calls>`, a line of `{"name": ..., "arguments": {...}}` for each call, `</tool_calls>`.

use super::grammar::Rules;
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call_of, json_of, named_objects};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "minimax-m1",
    is_of: |source| source.contains("</tool_calls>"),
    opens: &[("<tool_calls>", false)],
    marks: &["</tool_calls>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<tool_calls>")?;
    reader.section("</tool_calls>", |reader| call_of(&reader.json()?).ok_or(Stop::Not))
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let object = json_of(&named_objects(tools, "name", "arguments"));
    let call = rules.add(&object);
    let calls = rules.repeated(tools, &call, "\"\\n\"");
    rules.grammar(&format!("\"\\n\"? {calls} \"\\n\"? {}", marks.lark("</tool_calls>")))
}
