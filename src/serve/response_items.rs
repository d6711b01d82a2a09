//! Converts items of OpenAI's responses to chat messages.

use serde_json::{Map, Value as Json, json};

use super::failure::Failure;

/// The messages of an input, which is a user text or items. Calls and reasoning become part of the assistant's message.
pub(super) fn messages(input: &Json) -> Result<Vec<Json>, Failure> {
    let items = match input {
        Json::String(text) => return Ok(vec![json!({ "role": "user", "content": text })]),
        Json::Array(items) => items,
        _ => return Err(Failure::field("input", "must be a string or an array of items")),
    };
    let mut messages = Messages::default();
    for (i, item) in items.iter().enumerate() {
        messages.add(&format!("input[{i}]"), item)?;
    }
    messages.answered();
    Ok(messages.done)
}

#[derive(Default)]
struct Messages {
    done: Vec<Json>,
    /// The parts of the current assistant message: thinking, text and calls.
    thought: Vec<String>,
    text: Option<String>,
    calls: Vec<Json>,
}

impl Messages {
    fn add(&mut self, place: &str, item: &Json) -> Result<(), Failure> {
        let Json::Object(map) = item else { return Err(Failure::field(place, "must be an object")) };
        match (map.get("type").and_then(Json::as_str), map.get("role").and_then(Json::as_str)) {
            (None | Some("message"), Some(role)) => {
                let text = text(&format!("{place}.content"), map.get("content"))?;
                if role == "assistant" {
                    if self.text.is_some() || !self.calls.is_empty() {
                        self.answered();
                    }
                    self.text = Some(text);
                } else {
                    self.answered();
                    self.done.push(json!({ "role": role, "content": text }));
                }
            }
            (Some("function_call"), _) => {
                let text = |name: &str| map.get(name).and_then(Json::as_str).unwrap_or_default();
                let function = json!({ "name": text("name"), "arguments": text("arguments") });
                self.calls.push(json!({ "id": text("call_id"), "type": "function", "function": function }));
            }
            (Some("function_call_output"), _) => {
                self.answered();
                let content = match map.get("output") {
                    Some(Json::String(text)) => text.clone(),
                    parts => text(&format!("{place}.output"), parts)?,
                };
                let id = map.get("call_id").cloned().unwrap_or_default();
                self.done.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
            }
            (Some("reasoning"), _) => {
                if self.text.is_some() || !self.calls.is_empty() {
                    self.answered();
                }
                self.thought.extend(thoughts(map));
            }
            (Some(kind), _) => return Err(Failure::unsupported(place, &format!("items of type {kind}"))),
            (None, None) => return Err(Failure::field(&format!("{place}.role"), "must be a string")),
        }
        Ok(())
    }

    /// Ends the current assistant message.
    fn answered(&mut self) {
        let (thought, text) = (std::mem::take(&mut self.thought), self.text.take());
        let calls = std::mem::take(&mut self.calls);
        if text.is_none() && calls.is_empty() {
            return;
        }
        let mut message = json!({ "role": "assistant", "content": text.unwrap_or_default() });
        if !thought.is_empty() {
            message["reasoning_content"] = thought.join("\n").into();
        }
        if !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        self.done.push(message);
    }
}

/// The texts of a reasoning item: its content, or else its summary.
fn thoughts(map: &Map<String, Json>) -> Vec<String> {
    let texts = |name: &str| -> Vec<String> {
        let parts = map.get(name).and_then(Json::as_array).into_iter().flatten();
        parts.filter_map(|part| part["text"].as_str().map(str::to_owned)).collect()
    };
    Some(texts("content")).filter(|texts| !texts.is_empty()).unwrap_or_else(|| texts("summary"))
}

/// The text of a content.
fn text(place: &str, content: Option<&Json>) -> Result<String, Failure> {
    let part = |part: &Json| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("input_text" | "output_text" | "text" | "reasoning_text"), Some(text)) => Ok(text.to_owned()),
        (Some("refusal"), _) => Ok(part["refusal"].as_str().unwrap_or_default().to_owned()),
        (kind, _) => Err(Failure::unsupported(place, &format!("parts of type {} (only text)", kind.unwrap_or("none")))),
    };
    match content {
        Some(Json::String(text)) => Ok(text.clone()),
        Some(Json::Array(parts)) => Ok(parts.iter().map(part).collect::<Result<Vec<_>, _>>()?.join("\n")),
        _ => Err(Failure::field(place, "must be a string or an array of parts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages() {
        let input = json!([
            { "role": "developer", "content": "Be brief." },
            { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Hi" }] },
            { "type": "reasoning", "id": "rs_1", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "I look." }] },
            { "type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c1", "output": "seen" },
            { "role": "user", "content": "And?" },
        ]);
        let call = json!({ "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{}" } });
        let expected = [
            json!({ "role": "developer", "content": "Be brief." }),
            json!({ "role": "user", "content": "Hi" }),
            json!({ "role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [call] }),
            json!({ "role": "tool", "tool_call_id": "c1", "content": "seen" }),
            json!({ "role": "user", "content": "And?" }),
        ];
        assert_eq!(messages(&input).expect("valid"), expected);
        for (input, expected) in [
            (json!(3), "input must be a string or an array of items"),
            (json!([3]), "input[0] must be an object"),
            (json!([{ "content": "x" }]), "input[0].role must be a string"),
            (json!([{ "type": "web_search_call" }]), "input[0] is not supported: items of type web_search_call"),
            (
                json!([{ "role": "user", "content": [{ "type": "input_image" }] }]),
                "input[0].content is not supported: parts of type input_image (only text)",
            ),
        ] {
            assert_eq!(messages(&input).map_err(|failure| failure.message), Err(expected.to_owned()));
        }
    }
}
