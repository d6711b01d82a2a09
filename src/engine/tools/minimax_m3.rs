//! MiniMax M3: tags that begin with `]<]minimax[>[`: `<tool_call>`, `<invoke name="f">`, a tag for each parameter, and within it the
//! text, tags for the keys of an object, or `<item>` for those of an array.

use serde_json::{Map, Value as Json};

use super::grammar::{Rules, enumerated, is_text};
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, text};

/// What tags begin with.
const NS: &str = "]<]minimax[>[";

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "minimax-m3",
    is_of: |source| source.contains(NS),
    opens: &[("]<]minimax[>[<tool_call>", false)],
    marks: &[],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, tools: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark(NS)?;
    reader.mark("<tool_call>")?;
    let mut calls = Vec::new();
    loop {
        reader.space();
        if !calls.is_empty() && reader.is_at_end() {
            return Ok(calls);
        }
        reader.mark(NS)?;
        if !calls.is_empty() && reader.optional("</tool_call>")? {
            return Ok(calls);
        }
        reader.mark("<invoke name=\"")?;
        let name = reader.until("\">")?;
        let mut arguments = Map::new();
        while let Some((key, value)) = element(reader, "</invoke>", 0)? {
            let value = match value {
                Json::String(text) => tools.value(name, key, &text),
                nested => nested,
            };
            arguments.insert(key.to_owned(), value);
        }
        calls.push(call(name, arguments));
    }
}

/// An element with its name, unless the tag that closes its parent comes.
fn element<'t>(reader: &mut Reader<'t>, close: &str, depth: usize) -> Read<Option<(&'t str, Json)>> {
    if depth > 50 {
        return Err(Stop::Not);
    }
    reader.space();
    reader.mark(NS)?;
    if reader.optional(close)? {
        return Ok(None);
    }
    reader.mark("<")?;
    let name = reader.until(">")?;
    let own = format!("</{name}>");
    let text = reader.until(NS)?;
    // The mark is read: what follows it says whether this was the value, or an element begins within it.
    if reader.optional(&own)? {
        return Ok(Some((name, text.into())));
    }
    if !text.trim().is_empty() {
        return Err(Stop::Not);
    }
    reader.back(NS.len());
    let mut children = Vec::new();
    while let Some((child, value)) = element(reader, &own, depth + 1)? {
        // Within a value nothing but its text says what it is.
        let value = match value {
            Json::String(text) => serde_json::from_str(&text).unwrap_or(Json::String(text)),
            nested => nested,
        };
        children.push((child.to_owned(), value));
    }
    if children.iter().all(|(child, _)| child == "item") {
        return Ok(Some((name, children.into_iter().map(|(_, value)| value).collect())));
    }
    Ok(Some((name, Json::Object(children.into_iter().collect()))))
}

/// Texts, numbers and words by their schemas; values that nest are elements of any names and texts.
fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let open = marks.lark(&format!("{NS}<"));
    let (name, content) = (rules.until("[A-Za-z0-9_.-]+", ">"), rules.any_bare(&format!("{NS}</")));
    let end = rules.until("[A-Za-z0-9_.-]+", ">");
    let any = rules.next_name(0);
    rules.add(&format!("{open} {name} ({content} {end} | {any}+ {} {end})", marks.lark(&format!("{NS}</"))));
    let call = rules.any_tool(tools, |rules, tool, schema| {
        let arguments = rules.parameters(schema, |rules, parameter| {
            let Some(parameter) = parameter else { return any.clone() };
            let open = marks.lark(&format!("{NS}<{}>", parameter.name));
            let close = format!("{NS}</{}>", parameter.name);
            let kind = parameter.schema["type"].as_str().unwrap_or_default();
            let plain = is_text(&parameter.schema)
                || enumerated(&parameter.schema).is_some()
                || matches!(kind, "integer" | "number" | "boolean");
            if plain {
                return format!("{open} {}", rules.bare(&parameter.schema, &close));
            }
            let bare = rules.any_bare(&close);
            format!("{open} ({bare} | {any}+ {})", marks.lark(&close))
        });
        let open = marks.lark(&format!("{NS}<invoke name=\"{tool}\">"));
        format!("{open} {arguments} {}", marks.lark(&format!("{NS}</invoke>")))
    });
    let calls = rules.repeated(tools, &call, &text("\n"));
    rules.grammar(&format!("\"\\n\"? {calls} \"\\n\"? {}", marks.lark(&format!("{NS}</tool_call>"))))
}
