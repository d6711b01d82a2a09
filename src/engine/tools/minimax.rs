//! MiniMax M2: `<minimax:tool_call><invoke name="f"><parameter name="p">value</parameter></invoke></minimax:tool_call>`; Muse: the same
//! with `<atem:function_calls>` and `atem:` before the other tags; MiniCPM 5: `<function name="f"><param name="p">value</param></function>`.

use serde_json::{Map, Value as Json};

use super::grammar::{Rules, is_text};
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "minimax",
    is_of: |source| source.contains("minimax:tool_call"),
    opens: &[("<minimax:tool_call>", false)],
    marks: &["</minimax:tool_call>"],
    before_thinking: false,
    begun: false,
    read: |reader, tools| read(reader, tools, &MINIMAX),
    grammar: |tools, marks| block(tools, marks, &MINIMAX),
};

pub(super) const ATEM: ToolSyntax = ToolSyntax {
    name: "atem",
    is_of: |source| source.contains("<atem:function_calls>") || source.contains("atem:invoke"),
    opens: &[("<atem:function_calls>", false), (" to=", true), ("<|start|>assistant to=", false)],
    marks: &["</atem:function_calls>", "<|message|>", "<|eom|>"],
    before_thinking: false,
    begun: false,
    read: read_muse,
    grammar: |tools, marks| block(tools, marks, &MUSE),
};

pub(super) const PLAIN: ToolSyntax = ToolSyntax {
    name: "minicpm",
    is_of: |source| source.contains("<function name=") && source.contains("<param name="),
    opens: &[("<function name=\"", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read: |reader, tools| Ok(vec![one(reader, tools, &MINICPM)?]),
    grammar: plain,
};

/// The tags of a family.
struct Tags {
    /// Around all calls; nothing where each stands alone.
    all: &'static str,
    call: &'static str,
    parameter: &'static str,
}

const MINIMAX: Tags = Tags { all: "minimax:tool_call", call: "invoke", parameter: "parameter" };
const MUSE: Tags = Tags { all: "atem:function_calls", call: "atem:invoke", parameter: "atem:parameter" };
const MINICPM: Tags = Tags { all: "", call: "function", parameter: "param" };

fn read(reader: &mut Reader<'_>, tools: &Tools, tags: &Tags) -> Read<Vec<ToolCall>> {
    reader.mark(&format!("<{}>", tags.all))?;
    let mut calls = Vec::new();
    loop {
        reader.space();
        if reader.is_at_end() || reader.optional(&format!("</{}>", tags.all))? {
            return if calls.is_empty() { Err(Stop::Not) } else { Ok(calls) };
        }
        calls.push(one(reader, tools, tags)?);
    }
}

/// The header of a message says to whom it is: it is no text, and neither is a call.
fn read_muse(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    if reader.optional(" to=")? || reader.optional("<|start|>assistant to=")? {
        reader.name()?;
        return reader.mark("<|message|>").map(|()| Vec::new());
    }
    read(reader, tools, &MUSE)
}

/// A call in its tags.
fn one(reader: &mut Reader<'_>, tools: &Tools, tags: &Tags) -> Read<ToolCall> {
    let Tags { call: outer, parameter: inner, .. } = tags;
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

fn block(tools: &Tools, marks: &Marks<'_>, tags: &Tags) -> String {
    let mut rules = Rules::new(marks);
    let call = rules.any_tool(tools, |rules, name, schema| {
        let open = text(&format!("<{} name=\"{name}\">", tags.call));
        format!("{open} \"\\n\"? {}", rest(rules, schema, tags))
    });
    let calls = rules.repeated(tools, &call, "\"\\n\"?");
    rules.grammar(&format!("\"\\n\"? {calls} \"\\n\"? {}", marks.lark(&format!("</{}>", tags.all))))
}

fn plain(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let call = rules.any_tool(tools, |rules, name, schema| {
        format!("{} {}", text(&format!("{name}\">")), rest(rules, schema, &MINICPM))
    });
    rules.grammar(&call)
}

/// A call after its first tag.
fn rest(rules: &mut Rules<'_, '_>, schema: &Json, tags: &Tags) -> String {
    let Tags { call: outer, parameter: inner, .. } = tags;
    let close = format!("</{inner}>");
    let arguments = rules.parameters(schema, |rules, parameter| match parameter {
        Some(parameter) => {
            let open = text(&format!("<{inner} name=\"{}\">", parameter.name));
            let value = rules.bare(&parameter.schema, &close);
            if !is_text(&parameter.schema) || super::grammar::enumerated(&parameter.schema).is_some() {
                return format!("{open} {value} \"\\n\"?");
            }
            // What begins as a CDATA section has to end as one.
            let section = rules.any_bare(&format!("]]>{close}"));
            format!("{open} (\"<![CDATA[\" {section} | {value}) \"\\n\"?")
        }
        None => {
            let name = rules.until("[^\"<>\\n]+", "\">");
            format!("{} {name} {} \"\\n\"?", text(&format!("<{inner} name=\"")), rules.any_bare(&close))
        }
    });
    format!("{arguments} {}", text(&format!("</{outer}>")))
}
