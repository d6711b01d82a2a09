//! Solar Open: `<|tool_calls|>`, for each call `<|tool_call:begin|>id<|tool_call:name|>f<|tool_call:args|>{...}<|tool_call:end|>`, and
//! `<|calls|>`, which ends the turn.

use super::grammar::Rules;
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, json_of, text};

const BEGIN: &str = "<|tool_calls|>";
const CALL: &str = "<|tool_call:begin|>";
const NAME: &str = "<|tool_call:name|>";
const ARGUMENTS: &str = "<|tool_call:args|>";
const CALL_END: &str = "<|tool_call:end|>";
const END: &str = "<|calls|>";

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "solar-open",
    is_of: |source| source.contains(NAME),
    opens: &[(BEGIN, false), (CALL, false), (END, false)],
    marks: &[NAME, ARGUMENTS, CALL_END],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    if reader.optional(END)? {
        return Ok(Vec::new());
    }
    if reader.optional(BEGIN)? {
        reader.space();
    }
    reader.mark(CALL)?;
    reader.until(NAME)?;
    let name = reader.until(ARGUMENTS)?.trim().to_owned();
    let arguments = reader.json()?;
    if !arguments.is_object() {
        return Err(Stop::Not);
    }
    reader.close(CALL_END)?;
    Ok(vec![ToolCall { name, arguments: arguments_text(&arguments) }])
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let id = rules.until("[A-Za-z0-9_-]{1,32}", NAME);
    let call = rules
        .any_tool(tools, |_, name, schema| format!("{} {} {}", text(name), marks.lark(ARGUMENTS), json_of(schema)));
    let call = rules.add(&format!("{} {id} {call} {}", marks.lark(CALL), marks.lark(CALL_END)));
    let calls = rules.repeated(tools, &call, "");
    // The mark that ends the turn may be the end of the answer itself.
    rules.grammar(&format!("\"\\n\"? {calls} ({})?", marks.lark(END)))
}
