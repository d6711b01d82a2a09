//! Anthropic's dialect: messages whose contents are blocks, and streams of named events.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, CompleteChoice, Question};
use super::call::Call;
use super::failure::{Dialect, Failure};
use super::fields::Fields;
use super::models::ServedModel;
use super::prompt::{self, Prompt};
use super::reply::{Form, PING, Reply, Sink};
use super::settings::{Settings, new_id};
use super::tools;
use crate::engine::prompter::THINKING_SWITCHES;
use crate::engine::{Stop, ToolCall, Tools};

/// `POST /v1/messages`.
pub(super) async fn messages(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let stream = fields.flag("stream")?;
    let settings = settings(&call, fields, &model)?;
    let prompt = prompt(&model, fields, settings.tools.as_deref()).await?;
    let thinking = Some(prompt.thinks);
    let question = Question { prompts: vec![prompt.tokens], choices: 1, thinking, logprobs: None, settings };
    let answers = Answers::ask(&model, question).await?;
    let id = new_id("msg_");
    if stream {
        return Ok(Reply::stream(Form::Events, |sink| Stream::new(sink).run(id, model, answers)));
    }
    let Some(whole) = answers.whole().await?.pop() else { return Err(crate::engine::Error::Stopped.into()) };
    let mut message = message(&id, &model);
    message["content"] = blocks(&whole).into();
    message["stop_reason"] = stop_reason(&whole.ending).into();
    message["stop_sequence"] = whole.ending.stop_text.clone().into();
    message["usage"] = usage(&whole.ending);
    Ok(Reply::Json(message))
}

/// `POST /v1/messages/count_tokens`.
pub(super) async fn count_tokens(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let tools = tools::read_anthropic(fields)?;
    let prompt = prompt(&model, fields, tools.as_deref()).await?;
    Ok(Reply::Json(json!({ "input_tokens": prompt.tokens.len() })))
}

/// Settings of the answer, with Anthropic's names and those of the other dialects.
fn settings(call: &Call, fields: Fields<'_>, model: &ServedModel) -> Result<Settings, Failure> {
    let stop = fields.texts("stop_sequences")?;
    let skipped = ["messages", "system", "tools"];
    let others = fields.0.iter().filter(|(name, _)| !skipped.contains(&name.as_str()));
    let mut map: Map<String, Json> = others.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !stop.is_empty() {
        map.insert("stop".to_owned(), stop.into());
    }
    let tools = tools::read_anthropic(fields)?;
    Ok(Settings { tools, ..Settings::read(Fields(&map), model, call.salt, &["max_tokens"])? })
}

async fn prompt(model: &Arc<ServedModel>, fields: Fields<'_>, tools: Option<&Tools>) -> Result<Prompt, Failure> {
    let messages = conversation(fields)?;
    let mut variables = fields.object("chat_template_kwargs")?.map(|map| map.0.clone()).unwrap_or_default();
    // Who does not ask for thinking expects none, unless the server has it otherwise.
    let thinks = match fields.object("thinking")? {
        None => model.defaults.thinking.unwrap_or(false),
        Some(thinking) => match thinking.text("type")? {
            Some("enabled" | "adaptive") => true,
            Some("disabled") => false,
            _ => return Err(Failure::field("thinking.type", "must be \"enabled\", \"adaptive\" or \"disabled\"")),
        },
    };
    for name in THINKING_SWITCHES {
        variables.entry(name).or_insert(thinks.into());
    }
    prompt::prompt(model, messages, tools, variables).await
}

/// The messages in OpenAI's form, the system message first.
fn conversation(fields: Fields<'_>) -> Result<Vec<Json>, Failure> {
    let mut messages = Vec::new();
    if let Some(system) = fields.get("system") {
        let text = match system {
            Json::String(text) => text.clone(),
            Json::Array(blocks) => texts("system", blocks)?,
            _ => return Err(Failure::field("system", "must be a string or an array of blocks")),
        };
        if !text.is_empty() {
            messages.push(json!({ "role": "system", "content": text }));
        }
    }
    let given = fields.list("messages")?.ok_or_else(|| Failure::field("messages", "is needed"))?;
    if given.is_empty() {
        return Err(Failure::field("messages", "must not be empty"));
    }
    for (i, message) in given.iter().enumerate() {
        let place = format!("messages[{i}]");
        let role = message["role"].as_str();
        match (role, &message["content"]) {
            (Some(role @ ("user" | "assistant" | "system")), Json::String(text)) => {
                messages.push(json!({ "role": role, "content": text }));
            }
            (Some("user"), Json::Array(blocks)) => user_blocks(&format!("{place}.content"), blocks, &mut messages)?,
            (Some("assistant"), Json::Array(blocks)) => {
                messages.push(answered(&format!("{place}.content"), blocks)?);
            }
            (Some("system"), Json::Array(blocks)) => {
                messages.push(json!({ "role": "system", "content": texts(&format!("{place}.content"), blocks)? }));
            }
            (Some("user" | "assistant" | "system"), _) => {
                return Err(Failure::field(&format!("{place}.content"), "must be a string or an array of blocks"));
            }
            _ => return Err(Failure::field(&format!("{place}.role"), "must be \"user\" or \"assistant\"")),
        }
    }
    Ok(messages)
}

/// The text of blocks, which must all be text.
fn texts(place: &str, blocks: &[Json]) -> Result<String, Failure> {
    let text = |(i, block): (usize, &Json)| text_of(&format!("{place}[{i}]"), block);
    Ok(blocks.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// The text of a block: a text, or a document of plain text.
fn text_of(place: &str, block: &Json) -> Result<String, Failure> {
    let text = match block["type"].as_str() {
        Some("text") => block["text"].as_str(),
        Some("document") if block["source"]["type"] == "text" => block["source"]["data"].as_str(),
        Some(kind) => return Err(Failure::unsupported(place, &format!("blocks of type {kind} (only text)"))),
        None => None,
    };
    text.map(str::to_owned).ok_or_else(|| Failure::field(place, "must be a block with a text"))
}

/// A user's blocks: tool results come first, each as a message.
fn user_blocks(place: &str, blocks: &[Json], messages: &mut Vec<Json>) -> Result<(), Failure> {
    let mut user_texts = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        let place = format!("{place}[{i}]");
        if block["type"] != "tool_result" {
            user_texts.push(text_of(&place, block)?);
            continue;
        }
        let content = match &block["content"] {
            Json::String(text) => text.clone(),
            Json::Array(blocks) => texts(&format!("{place}.content"), blocks)?,
            Json::Null => String::new(),
            _ => return Err(Failure::field(&format!("{place}.content"), "must be a string or an array of blocks")),
        };
        messages.push(json!({ "role": "tool", "tool_call_id": block["tool_use_id"], "content": content }));
    }
    if !user_texts.is_empty() {
        messages.push(json!({ "role": "user", "content": user_texts.join("\n") }));
    }
    Ok(())
}

/// An assistant's blocks: thinking, text and calls.
fn answered(place: &str, blocks: &[Json]) -> Result<Json, Failure> {
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for (i, block) in blocks.iter().enumerate() {
        match block["type"].as_str() {
            Some("thinking") => thinking.push_str(block["thinking"].as_str().unwrap_or_default()),
            // Only Anthropic can read it.
            Some("redacted_thinking") => {}
            Some("tool_use") => {
                let function = json!({ "name": block["name"], "arguments": block["input"] });
                calls.push(json!({ "id": block["id"], "type": "function", "function": function }));
            }
            _ => text.push_str(&text_of(&format!("{place}[{i}]"), block)?),
        }
    }
    let mut message = json!({ "role": "assistant", "content": text });
    if !thinking.is_empty() {
        message["reasoning_content"] = thinking.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Ok(message)
}

fn message(id: &str, model: &ServedModel) -> Json {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model.id, "content": [],
        "stop_reason": null, "stop_sequence": null,
    })
}

/// The blocks of a complete answer.
fn blocks(whole: &CompleteChoice) -> Vec<Json> {
    let mut blocks = Vec::new();
    let thinking = whole.thinking.trim_end();
    if !thinking.is_empty() {
        blocks.push(json!({ "type": "thinking", "thinking": thinking, "signature": "" }));
    }
    if !whole.text.is_empty() || blocks.is_empty() && whole.calls.is_empty() {
        blocks.push(json!({ "type": "text", "text": whole.text }));
    }
    blocks.extend(whole.calls.iter().map(|call| tools::anthropic(call, true)));
    blocks
}

fn stop_reason(ending: &ChoiceEnd) -> &'static str {
    match ending.reason {
        Stop::Text => "stop_sequence",
        Stop::Length | Stop::Context => "max_tokens",
        _ if ending.calls > 0 => "tool_use",
        _ => "end_turn",
    }
}

/// Token counts; cached tokens are separate.
fn usage(ending: &ChoiceEnd) -> Json {
    counted(ending.usage.prompt_tokens, ending.usage.cached_tokens, ending.usage.answer_tokens)
}

fn counted(prompt: usize, cached: usize, answer: usize) -> Json {
    json!({
        "input_tokens": prompt - cached, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        "output_tokens": answer,
    })
}

/// A kind of block that is being streamed.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    Thinking,
    Text,
}

/// The state of a stream.
struct Stream {
    sink: Sink,
    open: Option<Block>,
    /// Number of blocks so far, including the open one.
    blocks: usize,
}

impl Stream {
    fn new(sink: Sink) -> Self {
        Self { sink, open: None, blocks: 0 }
    }

    /// Sends an event, whose name is its type.
    async fn send(&self, event: &Json) {
        self.sink.event(event["type"].as_str().unwrap_or_default(), event).await;
    }

    async fn run(mut self, id: String, model: Arc<ServedModel>, mut answers: Answers) {
        let mut begun = false;
        loop {
            let Ok(news) = tokio::time::timeout(PING, answers.next()).await else {
                self.send(&json!({ "type": "ping" })).await;
                continue;
            };
            match news {
                None => return,
                Some(Err(failure)) => return self.send(&failure.body(Dialect::Anthropic)).await,
                // The first event has the number of cached tokens.
                Some(Ok((_, ChoiceEvent::Reading { cached, total, .. }))) if !begun => {
                    begun = true;
                    let mut message = message(&id, &model);
                    message["usage"] = counted(total, cached, 0);
                    self.send(&json!({ "type": "message_start", "message": message })).await;
                    self.send(&json!({ "type": "ping" })).await;
                }
                Some(Ok((_, ChoiceEvent::Reading { .. }))) => {}
                Some(Ok((_, ChoiceEvent::Call(call)))) => self.call(&call).await,
                Some(Ok((_, ChoiceEvent::Text { thinking, text, .. }))) => {
                    self.add(Block::Thinking, &thinking).await;
                    self.add(Block::Text, &text).await;
                }
                Some(Ok((_, ChoiceEvent::End(ending)))) => return self.end(&ending).await,
            }
        }
    }

    async fn add(&mut self, block: Block, text: &str) {
        if text.is_empty() {
            return;
        }
        self.turn_to(block).await;
        let delta = match block {
            Block::Thinking => json!({ "type": "thinking_delta", "thinking": text }),
            Block::Text => json!({ "type": "text_delta", "text": text }),
        };
        self.delta(&delta).await;
    }

    /// Sends a block for a call.
    async fn call(&mut self, call: &ToolCall) {
        self.close().await;
        let block = tools::anthropic(call, false);
        self.send(&json!({ "type": "content_block_start", "index": self.blocks, "content_block": block })).await;
        self.blocks += 1;
        self.delta(&json!({ "type": "input_json_delta", "partial_json": call.arguments })).await;
        self.send(&json!({ "type": "content_block_stop", "index": self.blocks - 1 })).await;
    }

    async fn delta(&self, delta: &Json) {
        self.send(&json!({ "type": "content_block_delta", "index": self.blocks - 1, "delta": delta })).await;
    }

    /// Opens a block, unless it is open.
    async fn turn_to(&mut self, block: Block) {
        if self.open == Some(block) {
            return;
        }
        self.close().await;
        let empty = match block {
            Block::Thinking => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Block::Text => json!({ "type": "text", "text": "" }),
        };
        self.send(&json!({ "type": "content_block_start", "index": self.blocks, "content_block": empty })).await;
        self.open = Some(block);
        self.blocks += 1;
    }

    async fn close(&mut self) {
        let Some(block) = self.open.take() else { return };
        if block == Block::Thinking {
            self.delta(&json!({ "type": "signature_delta", "signature": "" })).await;
        }
        self.send(&json!({ "type": "content_block_stop", "index": self.blocks - 1 })).await;
    }

    async fn end(&mut self, ending: &ChoiceEnd) {
        if self.blocks == 0 {
            self.turn_to(Block::Text).await;
        }
        self.close().await;
        let delta = json!({ "stop_reason": stop_reason(ending), "stop_sequence": ending.stop_text });
        self.send(&json!({ "type": "message_delta", "delta": delta, "usage": usage(ending) })).await;
        self.send(&json!({ "type": "message_stop" })).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_messages() {
        let body = json!({
            "system": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
            "messages": [
                { "role": "user", "content": "Hi" },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "hm", "signature": "" }, { "type": "text", "text": "I look." },
                    { "type": "tool_use", "id": "t1", "name": "look", "input": { "at": "x" } },
                ] },
                { "role": "user", "content": [
                    { "type": "text", "text": "And?" },
                    { "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "seen" }] },
                ] },
            ],
        });
        let found = conversation(Fields(body.as_object().expect("an object"))).expect("valid");
        let call =
            json!({ "id": "t1", "type": "function", "function": { "name": "look", "arguments": { "at": "x" } } });
        let answer =
            json!({ "role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [call] });
        let expected = [
            json!({ "role": "system", "content": "a\nb" }),
            json!({ "role": "user", "content": "Hi" }),
            answer,
            json!({ "role": "tool", "tool_call_id": "t1", "content": "seen" }),
            json!({ "role": "user", "content": "And?" }),
        ];
        assert_eq!(found, expected);
        for (messages, expected) in [
            (json!([]), "messages must not be empty"),
            (json!([{ "role": "tool", "content": "x" }]), "messages[0].role must be \"user\" or \"assistant\""),
            (json!([{ "role": "user" }]), "messages[0].content must be a string or an array of blocks"),
            (
                json!([{ "role": "user", "content": [{ "type": "image" }] }]),
                "messages[0].content[0] is not supported: blocks of type image (only text)",
            ),
        ] {
            let body = json!({ "messages": messages });
            let found = conversation(Fields(body.as_object().expect("an object")));
            assert_eq!(found.map_err(|failure| failure.message), Err(expected.to_owned()));
        }
    }
}
