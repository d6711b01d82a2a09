//! GLM 4.5 to 4.7: `<tool_call>name`, then `<arg_key>k</arg_key><arg_value>v</arg_value>` for each argument.

use serde_json::Map;

use super::reader::{Read, Reader};
use super::{ToolCall, ToolSyntax, Tools, call};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "glm",
    is_of: |source| source.contains("<arg_key>"),
    opens: &[("<tool_call>", false)],
    marks: &["</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
    before_thinking: false,
    read,
    grammar: None,
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
