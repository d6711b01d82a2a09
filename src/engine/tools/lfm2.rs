//! LFM 2: calls in Python syntax, `<|tool_call_start|>[f(city="Paris", days=2)]<|tool_call_end|>`, or a list of JSON objects.

use serde_json::{Map, Value as Json};

use super::grammar::{Rules, enumerated, json_value};
use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, call, call_of, granite, text};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "lfm2",
    is_of: |source| source.contains("<|tool_call_start|>") || source.contains("<|tool_list_start|>"),
    opens: &[("<|tool_call_start|>", false)],
    marks: &["<|tool_call_end|>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<|tool_call_start|>")?;
    reader.space();
    let calls = if reader.peek()? == '{' {
        granite::list(reader)?
    } else {
        reader.mark("[")?;
        let mut calls = Vec::new();
        reader.list("]", |reader| {
            let is_json = reader.peek()? == '{';
            calls.push(if is_json { call_of(&reader.json()?).ok_or(Stop::Not)? } else { python_call(reader)? });
            Ok(())
        })?;
        calls
    };
    if calls.is_empty() {
        return Err(Stop::Not);
    }
    reader.close("<|tool_call_end|>")?;
    Ok(calls)
}

/// `f(city="Paris", days=2)`.
fn python_call(reader: &mut Reader<'_>) -> Read<ToolCall> {
    let name = reader.name()?;
    reader.mark("(")?;
    let mut arguments = Map::new();
    reader.list(")", |reader| {
        let key = reader.name()?;
        reader.space();
        reader.mark("=")?;
        arguments.insert(key.to_owned(), value(reader, 0)?);
        Ok(())
    })?;
    Ok(call(name, arguments))
}

/// A literal of Python.
fn value(reader: &mut Reader<'_>, depth: usize) -> Read<Json> {
    if depth > 50 {
        return Err(Stop::Not);
    }
    reader.space();
    match reader.peek()? {
        quote @ ('"' | '\'') => quoted(reader, quote).map(Json::from),
        '[' | '(' => {
            let close = if reader.optional("[")? { "]" } else { reader.mark("(").map(|()| ")")? };
            let mut items = Vec::new();
            reader.list(close, |reader| value(reader, depth + 1).map(|item| items.push(item)))?;
            Ok(items.into())
        }
        '{' => {
            reader.mark("{")?;
            let mut map = Map::new();
            reader.list("}", |reader| {
                let quote = reader.peek()?;
                let key = if matches!(quote, '"' | '\'') { quoted(reader, quote)? } else { reader.name()?.to_owned() };
                reader.space();
                reader.mark(":")?;
                map.insert(key, value(reader, depth + 1)?);
                Ok(())
            })?;
            Ok(map.into())
        }
        _ => {
            let word = reader.number_or_word()?;
            match word {
                "True" | "true" => Ok(true.into()),
                "False" | "false" => Ok(false.into()),
                "None" | "null" => Ok(Json::Null),
                number => serde_json::from_str(number).map_err(|_| Stop::Not),
            }
        }
    }
}

/// A text in quotes, with Python's escapes.
fn quoted(reader: &mut Reader<'_>, quote: char) -> Read<String> {
    let mark = quote.to_string();
    reader.mark(&mark)?;
    let mut text = String::new();
    loop {
        match reader.take()? {
            c if c == quote => return Ok(text),
            '\\' => match reader.take()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'u' => text.push(escaped(reader)?),
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
}

/// The character of an escape after its `\\u`: four digits, or two halves of a pair as JSON has them.
fn escaped(reader: &mut Reader<'_>) -> Read<char> {
    let digits = |reader: &mut Reader<'_>| {
        let digits: String = (0..4).map(|_| reader.take()).collect::<Read<_>>()?;
        u16::from_str_radix(&digits, 16).map_err(|_| Stop::Not)
    };
    let mut units = vec![digits(reader)?];
    if (0xd800..0xdc00).contains(&units[0]) {
        reader.mark("\\u")?;
        units.push(digits(reader)?);
    }
    char::decode_utf16(units).next().and_then(Result::ok).ok_or(Stop::Not)
}

/// Literals as JSON writes them, which are literals of Python but for three words.
fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let mut rules = Rules::new(marks);
    let call = rules.any_tool(tools, |rules, name, schema| {
        let list = rules.listed(schema, |rules, parameter| {
            let value = match (&parameter.schema["type"], enumerated(&parameter.schema)) {
                (_, Some(texts)) => {
                    let texts: Vec<String> = texts.iter().map(|one| text(&Json::from(*one).to_string())).collect();
                    rules.add(&texts.join(" | "))
                }
                (Json::String(kind), None) if kind == "boolean" => "(\"True\" | \"False\")".to_owned(),
                _ => rules.add(&json_value(&parameter.schema)),
            };
            format!("{} {value}", text(&format!("{}=", parameter.name)))
        });
        format!("{} {list} \")\"", text(&format!("{name}(")))
    });
    let calls = rules.repeated(tools, &call, "\",\" \" \"?");
    rules.grammar(&format!("\"[\" {calls} \"]\" {}", marks.lark("<|tool_call_end|>")))
}
