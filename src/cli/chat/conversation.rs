//! Conversations as JSON, and in session files with their tokens and KV cache.

use std::path::Path;

use anyhow::Context as _;
use gguf_toolkit::engine::{Chat, Message, ToolCall};
use serde_json::{Value as Json, json};

use super::commands::ChatState;
use super::screen::notice;

/// A conversation: the system prompt, the messages and the summary of dropped ones.
pub(super) fn to_json(chat: &Chat) -> Json {
    let message = |message: &Message| {
        let mut json = json!({ "role": message.role, "content": message.content });
        if let Some(reasoning) = &message.reasoning {
            json["reasoning_content"] = reasoning.as_str().into();
        }
        if !message.calls.is_empty() {
            let call = |(id, call): &(String, ToolCall)| json!({ "id": id, "type": "function", "function": { "name": call.name, "arguments": call.arguments } });
            json["tool_calls"] = message.calls.iter().map(call).collect();
        }
        if let Some((id, name)) = &message.result_of {
            json["tool_call_id"] = id.as_str().into();
            json["name"] = name.as_str().into();
        }
        json
    };
    let messages: Vec<Json> = chat.messages().iter().map(message).collect();
    let mut conversation = json!({ "version": 1, "system": chat.options().system, "messages": messages });
    if let Some(summary) = chat.summary() {
        conversation["summary"] = summary.into();
    }
    conversation
}

/// Replaces the chat's conversation by one of [`to_json`], or by a plain list of messages. Returns the number of messages.
pub(super) fn set(chat: &mut Chat, json: &Json) -> anyhow::Result<usize> {
    let list = json.get("messages").unwrap_or(json).as_array().context("no messages")?;
    let mut messages = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let text = |key: &str| item.get(key).and_then(Json::as_str).map(str::to_owned);
        let (role, content) =
            text("role").zip(text("content")).with_context(|| format!("message {i}: no role and content"))?;
        let call = |call: &Json| {
            let text = |place: &str| call.pointer(place).and_then(Json::as_str).map(str::to_owned);
            let (name, arguments) = text("/function/name").zip(text("/function/arguments"))?;
            Some((text("/id").unwrap_or_default(), ToolCall { name, arguments }))
        };
        let calls = item.get("tool_calls").and_then(Json::as_array).into_iter().flatten().filter_map(call).collect();
        let result_of = text("tool_call_id").zip(text("name"));
        messages.push(Message { role, content, reasoning: text("reasoning_content"), calls, result_of });
    }
    let mut system = json.get("system").and_then(Json::as_str).map(str::to_owned);
    if messages.first().is_some_and(|message| message.role == "system") {
        system = Some(messages.remove(0).content);
    }
    let count = messages.len();
    chat.set_messages(messages);
    chat.set_summary(json.get("summary").and_then(Json::as_str).map(str::to_owned));
    if system.is_some() {
        chat.change(|options| options.system = system);
    }
    Ok(count)
}

/// Continues the session in the file `path`, if it exists. A system prompt that the chat already has stays.
pub(super) fn resume(chat: &mut Chat, path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let own = chat.options().system.clone();
    let note = chat.restore_session(path)?;
    let name = gguf_toolkit::printable::printable_path(path).to_string();
    let json: Json = serde_json::from_slice(&note).with_context(|| name.clone())?;
    let count = set(chat, &json).with_context(|| name.clone())?;
    if own.is_some() {
        chat.change(|options| options.system = own);
    }
    notice(&format!("{name}: {count} messages, {} tokens", chat.session().tokens().len()));
    Ok(())
}

/// Writes the session to its file, if it has one.
pub(super) fn keep(state: &ChatState) -> anyhow::Result<()> {
    let Some(path) = &state.session else { return Ok(()) };
    let note = serde_json::to_vec(&to_json(&state.chat))?;
    state.chat.session().save(path, &note)?;
    Ok(())
}
