//! Kimi K2: `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{...}<|tool_call_end|>` within a section.

use serde_json::Value as Json;

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, json_of, text};

const BEGIN: &str = "<|tool_calls_section_begin|>";
const END: &str = "<|tool_calls_section_end|>";
const CALL: &str = "<|tool_call_begin|>";
const ARGUMENTS: &str = "<|tool_call_argument_begin|>";
const CALL_END: &str = "<|tool_call_end|>";

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "kimi-k2",
    is_of: |source| source.contains(ARGUMENTS),
    opens: &[(BEGIN, false)],
    marks: &[END, CALL, ARGUMENTS, CALL_END],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark(BEGIN)?;
    reader.section(END, |reader| {
        reader.mark(CALL)?;
        let id = reader.until(ARGUMENTS)?.trim();
        let name = id.strip_prefix("functions.").unwrap_or(id);
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name).to_owned();
        let arguments = reader.json()?;
        if !arguments.is_object() {
            return Err(Stop::Not);
        }
        reader.close(CALL_END)?;
        Ok(ToolCall { name, arguments: arguments_text(&arguments) })
    })
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let one = |(name, schema): (&str, &Json)| {
        format!("{} /[0-9]{{1,3}}/ {} {}", text(&format!("functions.{name}:")), marks.lark(ARGUMENTS), json_of(schema))
    };
    let all = tools.callable().map(one).collect::<Vec<_>>().join(" | ");
    let more = if tools.parallel { "call*" } else { "" };
    let (open, close, end) = (marks.lark(CALL), marks.lark(CALL_END), marks.lark(END));
    format!("start: call {more} {end}\ncall: {open} body {close}\nbody: {all}\n")
}
