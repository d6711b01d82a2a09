//! Apertus: `<|tools_prefix|>[{"name": {arguments}}, ...]<|tools_suffix|>`.

use serde_json::{Map, Value as Json, json};

use super::reader::{Read, Reader, Stop};
use super::{Marks, ToolCall, ToolSyntax, Tools, arguments_text, granite, json_of};

pub(super) const SYNTAX: ToolSyntax = ToolSyntax {
    name: "apertus",
    is_of: |source| source.contains("<|tools_prefix|>"),
    opens: &[("<|tools_prefix|>", false)],
    marks: &["<|tools_suffix|>"],
    before_thinking: false,
    begun: false,
    read,
    grammar,
};

fn read(reader: &mut Reader<'_>, _: &Tools) -> Read<Vec<ToolCall>> {
    reader.mark("<|tools_prefix|>")?;
    let Json::Array(items) = reader.json()? else { return Err(Stop::Not) };
    let mut calls = Vec::new();
    for item in &items {
        let Some((name, arguments)) =
            item.as_object().filter(|item| item.len() == 1).and_then(|item| item.iter().next())
        else {
            return Err(Stop::Not);
        };
        calls.push(ToolCall { name: name.clone(), arguments: arguments_text(arguments) });
    }
    reader.close("<|tools_suffix|>")?;
    Ok(calls)
}

fn grammar(tools: &Tools, marks: &Marks<'_>) -> String {
    let one = |(name, schema): (&str, &Json)| {
        let properties = Map::from_iter([(name.to_owned(), schema.clone())]);
        json!({ "type": "object", "properties": properties, "required": [name], "additionalProperties": false })
    };
    let objects: Vec<Json> = tools.callable().map(one).collect();
    let list = json_of(&granite::array_with(tools, &json!({ "anyOf": objects })));
    format!("start: list {}\nlist: {list}\n", marks.lark("<|tools_suffix|>"))
}
