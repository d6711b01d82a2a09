//! GLM 4.5 to 4.7: `<tool_call>name`, then `<arg_key>k</arg_key><arg_value>v</arg_value>` for each argument.

use serde_json::Map;

use super::grammar::Rules;
use super::reader::{Read, Reader};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "glm",
    is_of: |source| source.contains("<arg_key>"),
    opens: &[("<tool_call>", false)],
    marks: &["</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<tool_call>")?;
    reader.space();
    let name = reader.name()?;
    let mut arguments = Map::new();
    loop {
        reader.space();
        if reader.is_at_end() || reader.optional("</tool_call>")? {
            return Ok(vec![call(name, arguments)]);
        }
        reader.mark("<arg_key>")?;
        let key = reader.until("</arg_key>")?.trim();
        reader.space();
        reader.mark("<arg_value>")?;
        let value = reader.until("</arg_value>")?;
        arguments.insert(key.to_owned(), tools.value(name, key, value));
    }
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let [key, key_end, value] = ["<arg_key>", "</arg_key>", "<arg_value>"].map(|mark| marks.lark(mark));
    let call = rules.any_tool(tools, |rules, name, schema| {
        let arguments = rules.parameters(schema, |rules, parameter| {
            let (name, argument) = match parameter {
                Some(parameter) => {
                    (format!("{} {key_end}", text(parameter.name)), rules.bare(&parameter.schema, "</arg_value>"))
                }
                None => (rules.until("[^<\\n]+", "</arg_key>"), rules.any_bare("</arg_value>")),
            };
            format!("\"\\n\"? {key} {name} \"\\n\"? {value} {argument}")
        });
        format!("{} {arguments}", text(name))
    });
    rules.grammar(&format!("{call} \"\\n\"? {}", marks.lark("</tool_call>")))
}
