//! MiniMax M2: `<minimax:tool_call><invoke name="f"><parameter name="p">value</parameter></invoke></minimax:tool_call>`; MiniCPM 5:
//! `<function name="f"><param name="p">value</param></function>`.

use serde_json::Map;

use super::reader::{Read, Reader, Stop};
use super::{ToolCall, ToolSyntax, Tools, call};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "minimax",
    is_of: |source| source.contains("<minimax:tool_call>") || source.contains("minimax:tool_call"),
    opens: &[("<minimax:tool_call>", false)],
    marks: &["</minimax:tool_call>"],
    before_thinking: false,
    read,
    grammar: None,
};

pub(super) const PLAIN: ToolSyntax = ToolSyntax {
    name: "minicpm",
    is_of: |source| source.contains("<function name=") && source.contains("<param name="),
    opens: &[("<function name=\"", false)],
    marks: &[],
    before_thinking: false,
    read: |reader, tools| Ok(vec![one(reader, tools, ["function", "param"])?]),
    grammar: None,
};

fn read(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<minimax:tool_call>")?;
    let mut calls = Vec::new();
    loop {
        reader.space();
        if reader.is_at_end() || reader.optional("</minimax:tool_call>")? {
            return if calls.is_empty() { Err(Stop::Not) } else { Ok(calls) };
        }
        calls.push(one(reader, tools, ["invoke", "parameter"])?);
    }
}

/// A call in tags of these names.
fn one(reader: &mut Reader<'_>, tools: &Tools, [outer, inner]: [&str; 2]) -> Read<ToolCall> {
    reader.mark(&format!("<{outer} name=\""))?;
    let name = reader.until("\">")?;
    let mut arguments = Map::new();
    loop {
        reader.space();
        if reader.optional(&format!("</{outer}>"))? {
            return Ok(call(name, arguments));
        }
        reader.mark(&format!("<{inner} name=\""))?;
        let parameter = reader.until("\">")?;
        let value = if reader.optional("<![CDATA[")? {
            let value = reader.until("]]>")?;
            reader.mark(&format!("</{inner}>"))?;
            value
        } else {
            reader.until(&format!("</{inner}>"))?
        };
        arguments.insert(parameter.to_owned(), tools.value(name, parameter, value));
    }
}
