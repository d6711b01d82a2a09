//! Kimi K3: `<|open|>call tool="f" index="1"<|sep|>`, for each argument `<|open|>argument key="k" type="string"<|sep|>value
//! <|close|>argument<|sep|>` (texts bare, anything else as JSON) or all of them as `json`, then `<|close|>call<|sep|>`; the calls stand
//! within `<|open|>tools<|sep|>`. The tags around thinking and text are of the same kind.

use serde_json::{Map, Value as Json};

use super::grammar::{Rules, is_text};
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, call, text};

const TOOLS: &str = "<|open|>tools<|sep|>";
const TOOLS_END: &str = "<|close|>tools<|sep|>";
const CALL_END: &str = "<|close|>call<|sep|>";
const ARGUMENT_END: &str = "<|close|>argument<|sep|>";
/// Tags that are no text of an answer.
const AROUND: [&str; 4] =
    ["<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>think<|sep|>", "<|close|>message<|sep|>"];

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "kimi-k3",
    is_of: |source| source.contains("<|open|>") && source.contains("<|close|>"),
    opens: &[(TOOLS, false), (AROUND[0], false), (AROUND[1], false), (AROUND[2], false), (AROUND[3], false)],
    marks: &[TOOLS_END],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    for around in AROUND {
        if reader.optional(around)? {
            return Ok(Vec::new());
        }
    }
    reader.mark(TOOLS)?;
    reader.section(TOOLS_END, |reader| {
        reader.mark("<|open|>call tool=\"")?;
        let name = reader.until("\"")?.to_owned();
        reader.until("<|sep|>")?;
        one(reader, &name)
    })
}

/// A call after its opening tag.
fn one(reader: &mut Reader<'_>, name: &str) -> Read<ToolCall> {
    let (mut arguments, mut whole) = (Map::new(), None);
    loop {
        reader.space();
        if reader.optional(CALL_END)? {
            return Ok(
                whole.map_or_else(|| call(name, arguments), |arguments| ToolCall { name: name.to_owned(), arguments })
            );
        }
        if reader.optional("<|open|>json")? {
            reader.until("<|sep|>")?;
            whole = Some(arguments_text(&reader.json()?));
            reader.mark("<|close|>json<|sep|>")?;
            continue;
        }
        reader.mark("<|open|>argument key=\"")?;
        let key = reader.until("\" type=\"")?;
        let kind = reader.until("\"<|sep|>")?;
        let value = reader.until(ARGUMENT_END)?;
        let value: Json =
            if kind == "string" { value.into() } else { serde_json::from_str(value).map_err(|_| Stop::Not)? };
        arguments.insert(key.to_owned(), value);
    }
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let number = rules.add("/[1-9][0-9]?/");
    let call = rules.any_tool(tools, |rules, name, schema| {
        let sep = marks.lark("\"<|sep|>");
        let arguments = rules.parameters(schema, |rules, parameter| match parameter {
            Some(parameter) => {
                let head = marks.lark(&format!("<|open|>argument key=\"{}\" type=\"", parameter.name));
                format!("{head} {} {sep} {}", kind(&parameter.schema), rules.bare(&parameter.schema, ARGUMENT_END))
            }
            None => {
                let key = rules.until("[^\"<>\\n]+", "\" type=\"string\"<|sep|>");
                let value = rules.any_bare(ARGUMENT_END);
                format!("{} {key} {value}", marks.lark("<|open|>argument key=\""))
            }
        });
        let head = marks.lark(&format!("<|open|>call tool=\"{name}\" index=\""));
        format!("{head} {number} {sep} {arguments} {}", marks.lark(CALL_END))
    });
    let calls = rules.repeated(tools, &call, "");
    rules.grammar(&format!("{calls} {}", marks.lark(TOOLS_END)))
}

/// The kinds of values that a schema allows, in Lark.
fn kind(schema: &Json) -> String {
    match schema["type"].as_str() {
        _ if is_text(schema) => text("string"),
        Some("integer" | "number") => text("number"),
        Some(kind @ ("boolean" | "null" | "object" | "array")) => text(kind),
        _ => "(\"number\" | \"boolean\" | \"null\" | \"object\" | \"array\")".to_owned(),
    }
}
