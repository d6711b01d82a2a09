//! Gemma 4: `<|tool_call>call:name{city:<|"|>Paris<|"|>,days:2}<tool_call|>`.

use serde_json::{Map, Value as Json};

use super::reader::{Read, Reader, Stop};
use super::{ToolCall, ToolSyntax, Tools, call};

/// The mark around texts.
const QUOTE: &str = "<|\"|>";

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "gemma4",
    is_of: |source| source.contains("<|tool_call>"),
    opens: &[("<|tool_call>", false)],
    marks: &["<tool_call|>", QUOTE],
    before_thinking: false,
    read,
    grammar: None,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<|tool_call>")?;
    reader.mark("call:")?;
    let name = reader.name()?;
    let Json::Object(arguments) = value(reader, 0)? else { return Err(Stop::Not) };
    reader.close("<tool_call|>")?;
    Ok(vec![call(name, arguments)])
}

fn value(reader: &mut Reader<'_>, depth: usize) -> Read<Json> {
    if depth > 50 {
        return Err(Stop::Not);
    }
    reader.space();
    match reader.peek()? {
        '{' => {
            reader.mark("{")?;
            let mut map = Map::new();
            reader.list("}", |reader| {
                let key = if reader.optional(QUOTE)? { reader.until(QUOTE)? } else { reader.until(":")? };
                if reader.peek()? == ':' {
                    reader.mark(":")?;
                }
                map.insert(key.trim().trim_matches('"').to_owned(), value(reader, depth + 1)?);
                Ok(())
            })?;
            Ok(map.into())
        }
        '[' => {
            reader.mark("[")?;
            let mut items = Vec::new();
            reader.list("]", |reader| value(reader, depth + 1).map(|item| items.push(item)))?;
            Ok(items.into())
        }
        '<' => {
            reader.mark(QUOTE)?;
            reader.until(QUOTE).map(Json::from)
        }
        '"' => reader.json(),
        _ => {
            let word = reader.number_or_word()?;
            serde_json::from_str(word).map_err(|_| Stop::Not)
        }
    }
}
