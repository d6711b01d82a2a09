//! Gemma 4: `<|tool_call>call:name{city:<|"|>Paris<|"|>,days:2}<tool_call|>`.

use serde_json::{Map, Value as Json};

use super::grammar::{Rules, enumerated, is_text, json_value, parameters};
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, text};

/// The mark around texts.
const QUOTE: &str = "<|\"|>";

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "gemma4",
    is_of: |source| source.contains("<|tool_call>"),
    opens: &[("<|tool_call>", false)],
    marks: &["<tool_call|>", QUOTE],
    before_thinking: false,
    begun: false,
    read,
    grammar,
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

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let any = any_value(&mut rules);
    let call = rules.any_tool(tools, |rules, name, schema| {
        format!("{} {}", text(&format!("call:{name}")), object(rules, schema, &any, 0))
    });
    rules.grammar(&format!("{call} {}", marks.lark("<tool_call|>")))
}

/// A rule for any value: texts between marks, numbers and words, arrays and objects of these.
fn any_value(rules: &mut Rules<'_, '_>) -> String {
    let quoted = quoted(rules, "(.|\\n)*");
    let number = rules.add(&json_value(&serde_json::json!({ "type": ["number", "boolean", "null"] })));
    let key = rules.add("/[A-Za-z_][A-Za-z0-9_]*/");
    // A rule may name itself: lists and objects nest.
    let value = rules.next_name(0);
    rules.add(&format!(
        "{quoted} | {number} | \"[\" ({value} (\",\" {value})*)? \"]\" | \"{{\" ({key} \":\" {value} (\",\" {key} \":\" {value})*)? \"}}\""
    ))
}

/// A text between its marks.
fn quoted(rules: &mut Rules<'_, '_>, expression: &str) -> String {
    let body = rules.until(expression, QUOTE);
    format!("{} {body}", rules.marks.lark(QUOTE))
}

/// An object by its schema, or any.
fn object(rules: &mut Rules<'_, '_>, schema: &Json, any: &str, depth: usize) -> String {
    if parameters(schema).is_empty() && schema["additionalProperties"] != false {
        let key = rules.add("/[A-Za-z_][A-Za-z0-9_]*/");
        return format!("\"{{\" ({key} \":\" {any} (\",\" {key} \":\" {any})*)? \"}}\"");
    }
    let list = rules.listed(schema, |rules, parameter| {
        let value = value_of(rules, &parameter.schema, any, depth + 1);
        format!("{} {value}", text(&format!("{}:", parameter.name)))
    });
    format!("\"{{\" {list} \"}}\"")
}

/// A value by its schema; what a schema says beyond types, texts and their lists is not kept to in arrays and objects.
fn value_of(rules: &mut Rules<'_, '_>, schema: &Json, any: &str, depth: usize) -> String {
    const DEEPEST: usize = 8;
    if let Some(texts) = enumerated(schema) {
        let quote = rules.marks.lark(QUOTE);
        let texts: Vec<String> = texts.into_iter().map(text).collect();
        return format!("{quote} ({}) {quote}", texts.join(" | "));
    }
    if is_text(schema) {
        return quoted(rules, &super::grammar::counted(schema));
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    match kind {
        _ if depth > DEEPEST => any.to_owned(),
        "object" => object(rules, schema, any, depth),
        "array" => {
            let item = schema.get("items").filter(|items| items.is_object());
            let item = item.map_or_else(|| any.to_owned(), |item| value_of(rules, item, any, depth + 1));
            let item = rules.add(&item);
            let count = |key: &str| schema[key].as_u64().and_then(|n| usize::try_from(n).ok());
            let empty = if count("minItems").unwrap_or(0) > 0 { "" } else { "?" };
            format!("\"[\" ({item} (\",\" {item})*){empty} \"]\"")
        }
        "integer" | "number" | "boolean" | "null" => rules.add(&json_value(schema)),
        _ if schema.get("enum").is_some() => rules.add(&json_value(schema)),
        _ => any.to_owned(),
    }
}
