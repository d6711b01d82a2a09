//! Hunyuan 3: `<tool_calls:opensource>`, for each call `<tool_call:opensource>name<tool_sep:opensource>` with its arguments in the tags
//! of GLM, which end in `:opensource` too.

use serde_json::Map;

use super::grammar::Rules;
use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, text};

const BEGIN: &str = "<tool_calls:opensource>";
const END: &str = "</tool_calls:opensource>";
const CALL: &str = "<tool_call:opensource>";
const CALL_END: &str = "</tool_call:opensource>";
const SEP: &str = "<tool_sep:opensource>";
const KEY: &str = "<arg_key:opensource>";
const KEY_END: &str = "</arg_key:opensource>";
const VALUE: &str = "<arg_value:opensource>";
const VALUE_END: &str = "</arg_value:opensource>";

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "hunyuan-3",
    is_of: |source| source.contains("<tool_calls{}>") && source.contains(":opensource"),
    opens: &[(BEGIN, false)],
    marks: &[END, CALL, CALL_END, SEP, KEY, KEY_END, VALUE, VALUE_END],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark(BEGIN)?;
    reader.section(END, |reader| {
        reader.mark(CALL)?;
        let name = reader.until(SEP)?.trim();
        let mut arguments = Map::new();
        loop {
            reader.space();
            if reader.optional(CALL_END)? {
                break;
            }
            reader.mark(KEY)?;
            let key = reader.until(KEY_END)?.trim();
            reader.space();
            reader.mark(VALUE)?;
            let value = reader.until(VALUE_END)?;
            arguments.insert(key.to_owned(), tools.value(name, key, value));
        }
        Ok(call(name, arguments))
    })
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let [open, sep, key, key_end, value] = [CALL, SEP, KEY, KEY_END, VALUE].map(|mark| marks.lark(mark));
    let call = rules.any_tool(tools, |rules, name, schema| {
        let arguments = rules.parameters(schema, |rules, parameter| {
            let (name, argument) = match parameter {
                Some(parameter) => {
                    (format!("{} {key_end}", text(parameter.name)), rules.bare(&parameter.schema, VALUE_END))
                }
                None => (rules.until("[^<\\n]+", KEY_END), rules.any_bare(VALUE_END)),
            };
            format!("{key} {name} \"\\n\"? {value} {argument} \"\\n\"?")
        });
        format!("{open} {} {sep} \"\\n\"? {arguments} {}", text(name), marks.lark(CALL_END))
    });
    let calls = rules.repeated(tools, &call, "\"\\n\"?");
    rules.grammar(&format!("\"\\n\"? {calls} \"\\n\"? {}", marks.lark(END)))
}
