//! Tools of requests, and tool calls in answers.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::failure::Failure;
use super::fields::Fields;
use super::settings::random;
use crate::engine::{ToolCall, ToolChoice, Tools};

/// Maximum tools of one request.
const MOST_TOOLS: usize = 128;

/// The tools of a request that may be called: `tools`, `tool_choice`, `parallel_tool_calls`.
pub(super) fn read(fields: Fields<'_>) -> Result<Option<Arc<Tools>>, Failure> {
    let definitions = fields.list("tools")?.map(Vec::as_slice).unwrap_or_default();
    if definitions.len() > MOST_TOOLS {
        return Err(Failure::field("tools", format!("must not be more than {MOST_TOOLS}")));
    }
    let mut tools =
        Tools::new(definitions).map_err(|error| Failure::field("tools", format!("are not valid: {error}")))?;
    tools.choice = choice(fields.get("tool_choice"), &tools)?;
    tools.parallel = fields.flag_or("parallel_tool_calls", true)?;
    Ok((!tools.is_empty()).then(|| Arc::new(tools)))
}

/// Anthropic's tools, whose schemas and choices have other names.
pub(super) fn read_anthropic(fields: Fields<'_>) -> Result<Option<Arc<Tools>>, Failure> {
    let mut map = Map::new();
    let mut all = Vec::new();
    for tool in fields.list("tools")?.into_iter().flatten() {
        if tool.get("type").is_some_and(|kind| kind != "custom" && !kind.is_null()) {
            return Err(Failure::unsupported("tools", &format!("of type {} (only custom)", tool["type"])));
        }
        all.push(
            json!({ "name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"] }),
        );
    }
    map.insert("tools".to_owned(), all.into());
    if let Some(choice) = fields.object("tool_choice")? {
        let value = match choice.text("type")? {
            Some("tool") => json!({ "name": choice.text("name")? }),
            Some(kind @ ("auto" | "any" | "none")) => kind.into(),
            _ => return Err(Failure::field("tool_choice.type", "must be auto, any, tool or none")),
        };
        map.insert("tool_choice".to_owned(), value);
        map.insert("parallel_tool_calls".to_owned(), (!choice.flag("disable_parallel_tool_use")?).into());
    }
    read(Fields(&map))
}

/// A call as an Anthropic block, with or without its input.
pub(super) fn anthropic(call: &ToolCall, with_input: bool) -> Json {
    let input = if with_input { arguments(call) } else { json!({}) };
    json!({ "type": "tool_use", "id": new_id(), "name": call.name, "input": input })
}

/// The arguments as JSON; arguments that are not valid JSON remain text.
fn arguments(call: &ToolCall) -> Json {
    serde_json::from_str(&call.arguments).unwrap_or_else(|_| call.arguments.as_str().into())
}

fn choice(value: Option<&Json>, tools: &Tools) -> Result<ToolChoice, Failure> {
    let wrong = |must: &str| Failure::field("tool_choice", must);
    let choice = match value {
        None => ToolChoice::Auto,
        Some(Json::String(text)) => match text.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" | "any" => ToolChoice::Required,
            _ => return Err(wrong("must be none, auto, required or a tool")),
        },
        Some(value) => {
            let name = value.pointer("/function/name").or_else(|| value.get("name")).and_then(Json::as_str);
            ToolChoice::Named(name.ok_or_else(|| wrong("must be none, auto, required or a tool"))?.to_owned())
        }
    };
    let missing = match &choice {
        ToolChoice::Named(name) => !tools.has(name),
        ToolChoice::Required => tools.definitions().is_empty(),
        ToolChoice::None | ToolChoice::Auto => false,
    };
    if missing { Err(wrong("asks for a tool that is not among the tools")) } else { Ok(choice) }
}

/// A name for a call: nine characters, as some templates want.
pub(super) fn new_id() -> String {
    format!("{:09x}", random() & 0xf_ffff_ffff)
}

/// A call in OpenAI's form.
pub(super) fn openai(call: &ToolCall) -> Json {
    json!({ "id": new_id(), "type": "function", "function": { "name": call.name, "arguments": call.arguments } })
}

/// A call as a piece of a stream; `index` is its number in the answer.
pub(super) fn delta(index: usize, call: &ToolCall) -> Json {
    let mut json = openai(call);
    json["index"] = index.into();
    json!({ "tool_calls": [json] })
}

/// A call in Ollama's form.
pub(super) fn ollama(call: &ToolCall) -> Json {
    json!({ "function": { "name": call.name, "arguments": arguments(call) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_choices_are_read() {
        let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
        let read = |fields: Json| {
            let found = super::read(Fields(fields.as_object().expect("an object")));
            found.map(|tools| tools.map(|tools| tools.choice.clone())).map_err(|failure| failure.message)
        };
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({ "tools": tools })), Ok(Some(ToolChoice::Auto)));
        assert_eq!(read(json!({ "tools": tools, "tool_choice": "none" })), Ok(None));
        assert_eq!(read(json!({ "tools": tools, "tool_choice": "required" })), Ok(Some(ToolChoice::Required)));
        let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
        let found = read(json!({ "tools": tools, "tool_choice": named("f") }));
        assert_eq!(found, Ok(Some(ToolChoice::Named("f".to_owned()))));
        for (fields, expected) in [
            (
                json!({ "tools": tools, "tool_choice": named("g") }),
                "tool_choice asks for a tool that is not among the tools",
            ),
            (json!({ "tool_choice": "required" }), "tool_choice asks for a tool that is not among the tools"),
            (json!({ "tools": tools, "tool_choice": "maybe" }), "tool_choice must be none, auto, required or a tool"),
            (
                json!({ "tools": [{ "name": "" }] }),
                "tools are not valid: tools[0].name: must be letters, digits, _, - and .",
            ),
        ] {
            assert_eq!(read(fields), Err(expected.to_owned()));
        }
    }
}
