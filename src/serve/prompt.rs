//! Renders the messages of a request to a prompt: checks them, applies the chat template, and encodes the result, in which no text
//! of a message becomes a control token.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::blocking::blocking;
use super::failure::Failure;
use super::models::ServedModel;
use crate::engine::prompter::{Prompter, THINKING_SWITCHES, prompt_options};
use crate::engine::{Rendered, Tools};
use crate::tokenizer::Tokenizer;

/// A prompt.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) tokens: Vec<u32>,
    /// Whether the answer starts inside of thinking.
    pub(super) thinks: bool,
}

/// Switches thinking on or off where a request does not: as the server has it, or else as `usual`.
pub(super) fn switch_thinking(model: &ServedModel, usual: Option<bool>, variables: &mut Map<String, Json>) {
    if THINKING_SWITCHES.iter().any(|name| variables.contains_key(*name)) {
        return;
    }
    match (model.defaults.thinking, usual) {
        (Some(on), _) => variables.extend(THINKING_SWITCHES.iter().map(|name| ((*name).to_owned(), on.into()))),
        (None, Some(on)) => drop(variables.insert(THINKING_SWITCHES[0].to_owned(), on.into())),
        (None, None) => {}
    }
}

/// The prompt for `messages` and the tools that may be called, with further variables for the template. An assistant's message at
/// the end is gone on with. That may take a while.
pub(super) async fn prompt(
    model: &Arc<ServedModel>,
    messages: Vec<Json>,
    tools: Option<&Tools>,
    mut variables: Map<String, Json>,
) -> Result<Prompt, Failure> {
    switch_thinking(model, None, &mut variables);
    if let Some(tools) = tools {
        variables.insert("tools".to_owned(), tools.definitions().into());
    }
    let messages = model.conversation(messages);
    let model = model.clone();
    blocking(move || render(&model.prompter, model.batcher().model().tokenizer(), &messages, variables)).await
}

fn render(
    prompter: &Prompter,
    tokenizer: &Tokenizer,
    messages: &[Json],
    mut variables: Map<String, Json>,
) -> Result<Prompt, Failure> {
    let given = messages;
    let mut messages = checked(given)?;
    let begun = begun(given, &mut messages)?;
    prompter.tell_tools(&mut messages, &mut variables);
    prompter.fold_system(&mut messages);
    let mut options = prompt_options(variables);
    if options.variables.remove("add_generation_prompt") == Some(Json::Bool(false)) {
        options.add_generation_prompt = begun.is_some();
    }
    let (Rendered { mut text, mut untrusted }, _) = prompter.render(messages, &options)?;
    let thinks = begun.is_none() && prompter.thinking.is_some_and(|style| style.begins_inside(&text));
    if let Some(begun) = begun.filter(|begun| !begun.is_empty()) {
        untrusted.push(text.len()..text.len() + begun.len());
        text.push_str(&begun);
    }
    let rendered = Rendered { text, untrusted };
    let tokens = rendered.tokens(tokenizer)?;
    Ok(Prompt { text: rendered.text, tokens, thinks })
}

/// The messages in the form for templates: content as text, `system` for `developer`, `reasoning_content` for `reasoning`,
/// arguments of tool calls as objects.
fn checked(messages: &[Json]) -> Result<Vec<Json>, Failure> {
    if messages.is_empty() {
        return Err(Failure::field("messages", "must not be empty"));
    }
    let mut messages: Vec<Json> =
        (0..).zip(messages).map(|(i, message)| check(i, message)).collect::<Result<_, _>>()?;
    name_results(&mut messages);
    Ok(messages)
}

/// Adds the name of the tool to results, which templates need: from the call with the same id, or at the same position.
fn name_results(messages: &mut [Json]) {
    let mut open: Vec<(Json, Json)> = Vec::new();
    for message in messages {
        for call in message.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
            if call.get("type").is_none() {
                call["type"] = "function".into();
            }
            open.push((call["id"].clone(), call["function"]["name"].clone()));
        }
        if message["role"] != "tool" {
            continue;
        }
        if let Some(name) = message.as_object_mut().and_then(|message| message.remove("tool_name")) {
            message["name"] = name;
        }
        let id = message.get("tool_call_id").unwrap_or(&Json::Null);
        let found = open.iter().position(|(call, _)| !id.is_null() && call == id).or((!open.is_empty()).then_some(0));
        if let Some(found) = found {
            let (_, name) = open.remove(found);
            if message.get("name").is_none() {
                message["name"] = name;
            }
        }
    }
}

fn check(i: usize, message: &Json) -> Result<Json, Failure> {
    let wrong = |what: &str, must: &str| Failure::field(&format!("messages[{i}]{what}"), must);
    let Json::Object(map) = message else { return Err(wrong("", "must be an object")) };
    let mut map = map.clone();
    let role = match map.get("role").and_then(Json::as_str) {
        Some("developer") => "system",
        Some(role) if !role.is_empty() => role,
        _ => return Err(wrong(".role", "must be a string")),
    };
    let has_calls = map.get("tool_calls").is_some_and(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty()));
    let content = match map.get("content") {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(parts)) => texts(i, parts, "\n")?,
        None | Some(Json::Null) if role == "assistant" || has_calls => String::new(),
        _ => return Err(wrong(".content", "must be a string or an array of parts")),
    };
    map.insert("role".to_owned(), role.to_owned().into());
    map.insert("content".to_owned(), content.into());
    if let Some(reasoning) = map.remove("reasoning").or_else(|| map.remove("thinking")) {
        map.entry("reasoning_content").or_insert(reasoning);
    }
    if map.get("reasoning_content").is_some_and(Json::is_null) {
        map.remove("reasoning_content");
    }
    if !has_calls {
        map.remove("tool_calls");
    }
    for (j, call) in map.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten().enumerate() {
        if !call.is_object() || !call.get("function").is_none_or(Json::is_object) {
            return Err(wrong(&format!(".tool_calls[{j}]"), "must be an object with a function"));
        }
        let arguments = call.pointer_mut("/function/arguments");
        // Arguments that are not JSON remain text.
        if let Some(arguments) = arguments
            && let Some(Ok(object @ Json::Object(_))) = arguments.as_str().map(serde_json::from_str)
        {
            *arguments = object;
        }
    }
    Ok(Json::Object(map))
}

/// The text of content with parts, and what comes between these.
fn texts(i: usize, parts: &[Json], between: &str) -> Result<String, Failure> {
    let text = |part: &Json| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text" | "input_text" | "output_text") | None, Some(text)) => Ok(text.to_owned()),
        (kind, _) => {
            let name = format!("messages[{i}].content");
            Err(Failure::unsupported(&name, &format!("parts of type {} (only text)", kind.unwrap_or("none"))))
        }
    };
    Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(between))
}

/// Removes the start of an answer from the end of the messages, which are those `given` in the form for templates.
fn begun(given: &[Json], messages: &mut Vec<Json>) -> Result<Option<String>, Failure> {
    let is_answer = |message: &Json| message["role"] == "assistant" && message.get("tool_calls").is_none();
    if !messages.last().is_some_and(is_answer) {
        return Ok(None);
    }
    let last = messages.pop();
    if messages.last().is_some_and(is_answer) {
        return Err(Failure::field("messages", "must not end with two messages of the assistant"));
    }
    if messages.is_empty() {
        return Err(Failure::field("messages", "must not be of the assistant alone"));
    }
    // llama-server puts an empty line between the parts of a text to go on from, and a new line between those of other messages.
    match given.last().and_then(|message| message["content"].as_array()) {
        Some(parts) => texts(given.len() - 1, parts, "\n\n").map(Some),
        None => Ok(last.and_then(|message| message["content"].as_str().map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_checked_and_put_in_one_form() {
        let tool = json!({ "function": { "name": "f", "arguments": "{\"a\":1}" } });
        let messages = [
            json!({ "role": "developer", "content": "s" }),
            json!({ "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] }),
            json!({ "role": "assistant", "content": null, "reasoning": "r", "tool_calls": [tool] }),
        ];
        let found = checked(&messages).expect("valid");
        assert_eq!(found[0], json!({ "role": "system", "content": "s" }));
        assert_eq!(found[1]["content"], "a\nb");
        assert_eq!(found[2]["reasoning_content"], "r");
        assert_eq!(found[2]["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
        let call = |id: &str, name: &str| json!({ "id": id, "function": { "name": name, "arguments": "{}" } });
        let messages = [
            json!({ "role": "assistant", "tool_calls": [call("1", "f"), call("2", "g")] }),
            json!({ "role": "tool", "tool_call_id": "2", "content": "x" }),
            json!({ "role": "tool", "content": "y" }),
        ];
        let found = checked(&messages).expect("valid");
        assert_eq!((&found[1]["name"], &found[2]["name"]), (&json!("g"), &json!("f")));
        for (message, expected) in [
            (json!(3), "messages[0] must be an object"),
            (json!({ "content": "x" }), "messages[0].role must be a string"),
            (json!({ "role": "user" }), "messages[0].content must be a string or an array of parts"),
            (
                json!({ "role": "user", "content": [{ "type": "image_url" }] }),
                "messages[0].content is not supported: parts of type image_url (only text)",
            ),
        ] {
            assert_eq!(checked(&[message]).map_err(|failure| failure.message), Err(expected.to_owned()));
        }
    }

    #[test]
    fn an_answer_that_has_begun_is_taken_from_the_end() {
        let message = |role: &str| json!({ "role": role, "content": role });
        let begun = |given: &[Json]| {
            let mut messages = checked(given).expect("valid");
            begun(given, &mut messages).map(|begun| (begun, messages.len())).map_err(|failure| failure.message)
        };
        assert_eq!(begun(&[message("user"), message("assistant")]), Ok((Some("assistant".to_owned()), 1)));
        assert_eq!(begun(&[message("user")]), Ok((None, 1)));
        let parts = json!({ "role": "assistant", "content": [{ "text": "Wh" }, { "text": "ill" }] });
        assert_eq!(begun(&[message("user"), parts]), Ok((Some("Wh\n\nill".to_owned()), 1)));
        assert!(begun(&[message("user"), message("assistant"), message("assistant")]).is_err());
        assert!(begun(&[message("assistant")]).is_err());
    }
}
