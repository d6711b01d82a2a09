//! OpenAI's responses: answers as lists of items, streamed as named events, and stored for requests that continue them.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, Question, Tokens};
use super::call::Call;
use super::failure::{Dialect, Failure};
use super::fields::Fields;
use super::models::{ServedModel, now};
use super::openai::{logprob_list, telemetry};
use super::prompt::{self, Prompt};
use super::reply::{Form, PING, Reply, Sink};
use super::response_items::messages;
use super::settings::{Settings, new_id};
use super::stored::{Responses, Stored};
use super::timings::{Meter, Telemetry, timings};
use super::tools;
use crate::engine::{ToolCall, Tools};
use crate::tokenizer::Tokenizer;

/// `POST /v1/responses`.
pub(super) async fn create(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    refuse_unsupported(fields)?;
    let stream = fields.flag("stream")?;
    let is_stored = fields.flag_or("store", true)?;
    let conversation = conversation(&call, fields)?;
    let logprobs = logprobs(fields)?;
    let mut settings = Settings::read(Fields(&settings_of(fields)), &model, call.salt, &["max_output_tokens"])?;
    settings.tools = tools::read(fields)?;
    let prompt = prompt(&model, fields, &conversation, settings.tools.as_deref()).await?;
    let thinking = Some(prompt.thinks);
    let question = Question { prompts: vec![prompt.tokens], choices: 1, thinking, logprobs, settings };
    let answers = Answers::ask(&model, question).await?;
    let keeper = ResponseStorage {
        responses: is_stored.then(|| call.responses.clone()),
        salt: call.salt,
        conversation,
        input: fields.get("input").cloned().unwrap_or_default(),
    };
    let response = Response::new(head(fields, &model, is_stored)?, logprobs.is_some(), telemetry(fields)?);
    if stream {
        return Ok(Reply::stream(Form::Events, |sink| run(sink, response, model, answers, keeper)));
    }
    let Some(whole) = answers.whole().await?.pop() else { return Err(crate::engine::Error::Stopped.into()) };
    let (mut response, tokenizer) = (response, model.batcher().model().tokenizer());
    let mut events = Vec::new();
    response.add(Kind::Reasoning, whole.thinking.trim_end(), &Vec::new(), tokenizer, &mut events);
    response.add(Kind::Message, &whole.text, &whole.tokens, tokenizer, &mut events);
    whole.calls.iter().for_each(|call| response.call(call, &mut events));
    response.end(&whole.ending, &mut events);
    keeper.keep(&response);
    Ok(Reply::Json(response.head))
}

/// `POST /v1/responses/input_tokens`.
pub(super) async fn count_tokens(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let conversation = conversation(&call, fields)?;
    let tools = tools::read(fields)?;
    let count = prompt(&model, fields, &conversation, tools.as_deref()).await?.tokens.len();
    Ok(Reply::Json(json!({ "object": "response.input_tokens", "input_tokens": count })))
}

/// The conversation of the response that a request continues, and its own input.
fn conversation(call: &Call, fields: Fields<'_>) -> Result<Vec<Json>, Failure> {
    let mut conversation = match fields.text("previous_response_id")? {
        None => Vec::new(),
        Some(id) => call.responses.find(call.salt, id).ok_or_else(|| not_found(id))?.messages(),
    };
    conversation.extend(messages(fields.get("input").ok_or_else(|| Failure::field("input", "is needed"))?)?);
    Ok(conversation)
}

/// `GET /v1/responses/{id}`, and its `input_items`.
pub(super) async fn get(call: Call) -> Result<Reply, Failure> {
    let (id, part) = call.rest.split_once('/').unwrap_or((&call.rest, ""));
    let stored = call.responses.find(call.salt, id).ok_or_else(|| not_found(id))?;
    match part {
        "" => Ok(Reply::Json(stored.response())),
        "input_items" => {
            let data = stored.input_items();
            let id = |item: Option<&Json>| item.map_or(Json::Null, |item| item["id"].clone());
            let (first, last) = (id(data.first()), id(data.last()));
            Ok(Reply::Json(json!({
                "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": false,
            })))
        }
        _ => Err(Failure::no_route(&format!("/v1/responses/{}", call.rest))),
    }
}

/// `DELETE /v1/responses/{id}`.
pub(super) async fn delete(call: Call) -> Result<Reply, Failure> {
    if !call.responses.remove(call.salt, &call.rest) {
        return Err(not_found(&call.rest));
    }
    Ok(Reply::Json(json!({ "id": call.rest, "object": "response", "deleted": true })))
}

/// `POST /v1/responses/{id}/cancel`.
pub(super) async fn cancel(call: Call) -> Result<Reply, Failure> {
    match call.rest.strip_suffix("/cancel") {
        Some(id) if call.responses.find(call.salt, id).is_none() => Err(not_found(id)),
        Some(_) => {
            Err(Failure::invalid("only responses in the background are cancelled; end the connection of others"))
        }
        None => Err(Failure::no_route(&format!("/v1/responses/{}", call.rest))),
    }
}

fn not_found(id: &str) -> Failure {
    Failure::not_found(format!(
        "response '{id}' not found: it was never stored, was deleted, or has made room for later ones"
    ))
}

fn refuse_unsupported(fields: Fields<'_>) -> Result<(), Failure> {
    if fields.flag("background")? {
        return Err(Failure::unsupported("background", "responses end with their connection"));
    }
    for (name, what) in
        [("conversation", "previous_response_id goes on from a response"), ("prompt", "there are no stored prompts")]
    {
        if fields.get(name).is_some() {
            return Err(Failure::unsupported(name, what));
        }
    }
    Ok(())
}

/// The number of likeliest tokens to report, if probabilities are requested.
fn logprobs(fields: Fields<'_>) -> Result<Option<usize>, Failure> {
    let top = fields.count("top_logprobs", 0, 20)?;
    let asked = fields.texts("include")?.iter().any(|name| name == "message.output_text.logprobs");
    Ok((asked || top.is_some_and(|top| top > 0)).then_some(top.unwrap_or(0)))
}

/// The fields of the answer's settings; `response_format` has another place in this API.
fn settings_of(fields: Fields<'_>) -> Map<String, Json> {
    let skipped = ["input", "instructions", "tools", "text"];
    let others = fields.0.iter().filter(|(name, _)| !skipped.contains(&name.as_str()));
    let mut map: Map<String, Json> = others.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(format) = fields.get("text").and_then(|text| text.get("format")).filter(|format| !format.is_null()) {
        map.insert("response_format".to_owned(), format.clone());
    }
    map
}

async fn prompt(
    model: &Arc<ServedModel>,
    fields: Fields<'_>,
    conversation: &[Json],
    tools: Option<&Tools>,
) -> Result<Prompt, Failure> {
    let mut variables = fields.object("chat_template_kwargs")?.map(|map| map.0.clone()).unwrap_or_default();
    let effort = fields.object("reasoning")?.map(|reasoning| reasoning.text("effort")).transpose()?.flatten();
    if let Some(effort) = effort {
        variables.entry("reasoning_effort").or_insert(effort.into());
        variables.entry("enable_thinking").or_insert((effort != "none").into());
    }
    prompt::switch_thinking(model, Some(true), &mut variables);
    let mut messages = conversation.to_vec();
    if let Some(instructions) = fields.text("instructions")?.filter(|text| !text.is_empty()) {
        messages.insert(0, json!({ "role": "system", "content": instructions }));
    }
    if messages.is_empty() {
        return Err(Failure::field("input", "must not be empty"));
    }
    prompt::prompt(model, messages, tools, variables).await
}

/// The response before any output.
fn head(fields: Fields<'_>, model: &ServedModel, is_stored: bool) -> Result<Json, Failure> {
    let given = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let or = |name: &str, usual: Json| fields.get(name).cloned().unwrap_or(usual);
    let sampler = &model.defaults.sampler;
    let number = |x: f32| x.to_string().parse::<f64>().map_or(Json::Null, Json::from);
    let mut text = or("text", json!({}));
    if text.get("format").is_none_or(Json::is_null) {
        text["format"] = json!({ "type": "text" });
    }
    fields.object("metadata")?;
    Ok(json!({
        "id": new_id("resp_"), "object": "response", "created_at": now(), "status": "in_progress", "background": false,
        "error": null, "incomplete_details": null, "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"), "model": model.id, "output": [],
        "parallel_tool_calls": or("parallel_tool_calls", true.into()),
        "previous_response_id": given("previous_response_id"),
        "reasoning": or("reasoning", json!({ "effort": null, "summary": null })), "store": is_stored,
        "temperature": or("temperature", number(sampler.temperature)), "text": text,
        "tool_choice": or("tool_choice", "auto".into()), "tools": or("tools", json!([])),
        "top_logprobs": or("top_logprobs", 0.into()), "top_p": or("top_p", number(sampler.top_p)),
        "truncation": "disabled", "usage": null, "user": given("user"), "metadata": or("metadata", json!({})),
    }))
}

/// Where a response is stored once it has ended.
struct ResponseStorage {
    /// The store, if the response is stored.
    responses: Option<Arc<Responses>>,
    salt: u64,
    conversation: Vec<Json>,
    input: Json,
}

impl ResponseStorage {
    fn keep(self, response: &Response) {
        let Some(responses) = self.responses else { return };
        let mut conversation = self.conversation;
        // Output items are read like input items.
        conversation.extend(messages(&response.head["output"]).unwrap_or_default());
        let id = response.head["id"].as_str().unwrap_or_default().to_owned();
        responses.insert(self.salt, id, Stored::new(&response.head, &self.input, &conversation));
    }
}

async fn run(
    sink: Sink,
    mut response: Response,
    model: Arc<ServedModel>,
    mut answers: Answers,
    keeper: ResponseStorage,
) {
    let tokenizer = model.batcher().model().tokenizer();
    let mut events = Vec::new();
    response.begin(&mut events);
    loop {
        for event in events.drain(..) {
            sink.event(event["type"].as_str().unwrap_or_default(), &event).await;
        }
        let Ok(news) = tokio::time::timeout(PING, answers.next()).await else {
            sink.ping().await;
            continue;
        };
        match news {
            None => return,
            Some(Err(failure)) => response.fail(&failure, &mut events),
            Some(Ok((_, ChoiceEvent::Reading { done, cached, total }))) => {
                if let Some((progress, timings)) = response.meter.read(done, cached, total) {
                    let more = json!({ "response": response.head, "prompt_progress": progress, "timings": timings });
                    response.push(&mut events, "response.in_progress", more);
                }
            }
            Some(Ok((_, ChoiceEvent::Call(call)))) => response.call(&call, &mut events),
            Some(Ok((_, ChoiceEvent::Text { thinking, text, tokens }))) => {
                response.timings = response.meter.answered(tokens.len());
                response.add(Kind::Reasoning, &thinking, &Vec::new(), tokenizer, &mut events);
                response.add(Kind::Message, &text, &tokens, tokenizer, &mut events);
            }
            Some(Ok((_, ChoiceEvent::End(ending)))) => {
                response.end(&ending, &mut events);
                keeper.keep(&response);
                for event in events {
                    sink.event(event["type"].as_str().unwrap_or_default(), &event).await;
                }
                return;
            }
        }
    }
}

/// A kind of item.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Reasoning,
    Message,
}

/// The open item.
struct Item {
    kind: Kind,
    id: String,
    text: String,
    logprobs: Vec<Json>,
}

/// The state of a response: takes parts of the answer and produces events.
struct Response {
    head: Json,
    with_logprobs: bool,
    meter: Meter,
    /// The figures so far, if pieces of text have them.
    timings: Option<Json>,
    open: Option<Item>,
    /// Number of the next event.
    sequence: u64,
}

impl Response {
    fn new(head: Json, with_logprobs: bool, telemetry: Telemetry) -> Self {
        Self { head, with_logprobs, meter: Meter::new(telemetry), timings: None, open: None, sequence: 0 }
    }

    fn push(&mut self, events: &mut Vec<Json>, kind: &str, mut event: Json) {
        let mut full = json!({ "type": kind, "sequence_number": self.sequence });
        if let (Some(full), Some(event)) = (full.as_object_mut(), event.as_object_mut()) {
            full.append(event);
        }
        self.sequence += 1;
        events.push(full);
    }

    fn begin(&mut self, events: &mut Vec<Json>) {
        for kind in ["response.created", "response.in_progress"] {
            let head = json!({ "response": self.head });
            self.push(events, kind, head);
        }
    }

    /// Number of items that have ended.
    fn count(&self) -> usize {
        self.head["output"].as_array().map_or(0, Vec::len)
    }

    fn add(&mut self, kind: Kind, text: &str, tokens: &Tokens, tokenizer: &Tokenizer, events: &mut Vec<Json>) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|item| item.kind != kind) {
            self.close("completed", events);
            self.open(kind, events);
        }
        let index = self.count();
        let logprobs = if self.with_logprobs { logprob_list(tokenizer, tokens) } else { Vec::new() };
        let Some(item) = &mut self.open else { return };
        item.text.push_str(text);
        item.logprobs.extend_from_slice(&logprobs);
        let mut place = json!({ "item_id": item.id, "output_index": index, "content_index": 0, "delta": text });
        if let Some(timings) = &self.timings {
            place["timings"] = timings.clone();
        }
        match kind {
            Kind::Reasoning => self.push(events, "response.reasoning_text.delta", place),
            Kind::Message => {
                place["logprobs"] = logprobs.into();
                self.push(events, "response.output_text.delta", place);
            }
        }
    }

    fn open(&mut self, kind: Kind, events: &mut Vec<Json>) {
        let index = self.count();
        let prefix = if kind == Kind::Message { "msg_" } else { "rs_" };
        let item = Item { kind, id: new_id(prefix), text: String::new(), logprobs: Vec::new() };
        let mut empty = item.json("in_progress");
        empty["content"] = json!([]);
        self.push(events, "response.output_item.added", json!({ "output_index": index, "item": empty }));
        let place = json!({ "item_id": item.id, "output_index": index, "content_index": 0, "part": item.part() });
        self.push(events, "response.content_part.added", place);
        self.open = Some(item);
    }

    /// Ends the open item.
    fn close(&mut self, status: &str, events: &mut Vec<Json>) {
        let Some(item) = self.open.take() else { return };
        let index = self.count();
        let place = json!({ "item_id": item.id, "output_index": index, "content_index": 0 });
        let with = |name: &str, value: Json| {
            let mut place = place.clone();
            place[name] = value;
            place
        };
        match item.kind {
            Kind::Reasoning => {
                self.push(events, "response.reasoning_text.done", with("text", item.text.as_str().into()));
            }
            Kind::Message => {
                let mut done = with("text", item.text.as_str().into());
                done["logprobs"] = item.logprobs.clone().into();
                self.push(events, "response.output_text.done", done);
            }
        }
        self.push(events, "response.content_part.done", with("part", item.part()));
        let json = item.json(status);
        self.push(events, "response.output_item.done", json!({ "output_index": index, "item": json }));
        if let Some(output) = self.head["output"].as_array_mut() {
            output.push(json);
        }
    }

    /// Adds a call, which is complete.
    fn call(&mut self, call: &ToolCall, events: &mut Vec<Json>) {
        self.close("completed", events);
        let (index, id, arguments) = (self.count(), new_id("fc_"), call.arguments.as_str());
        let mut item = json!({
            "id": id, "type": "function_call", "call_id": tools::new_id(), "name": call.name, "arguments": "",
            "status": "in_progress",
        });
        self.push(events, "response.output_item.added", json!({ "output_index": index, "item": item }));
        let place = |name: &str| json!({ "item_id": id, "output_index": index, name: arguments });
        self.push(events, "response.function_call_arguments.delta", place("delta"));
        self.push(events, "response.function_call_arguments.done", place("arguments"));
        item["arguments"] = arguments.into();
        item["status"] = "completed".into();
        self.push(events, "response.output_item.done", json!({ "output_index": index, "item": item }));
        if let Some(output) = self.head["output"].as_array_mut() {
            output.push(item);
        }
    }

    fn end(&mut self, ending: &ChoiceEnd, events: &mut Vec<Json>) {
        let cut = ending.finish_reason() == "length";
        let status = if cut { "incomplete" } else { "completed" };
        if self.open.is_none() && self.count() == 0 {
            self.open(Kind::Message, events);
        }
        self.close(status, events);
        let (prompt, answer) = (ending.usage.prompt_tokens, ending.usage.answer_tokens);
        self.head["status"] = status.into();
        if cut {
            self.head["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        self.head["usage"] = json!({
            "input_tokens": prompt, "input_tokens_details": { "cached_tokens": ending.usage.cached_tokens },
            "output_tokens": answer, "output_tokens_details": { "reasoning_tokens": ending.thinking_tokens },
            "total_tokens": prompt + answer,
        });
        let head = json!({ "response": self.head, "timings": timings(&ending.usage) });
        // Who asks for llama-server's figures gets its end of a stream, which has one name; the response's status is the same.
        let ended = if self.meter.is_asked_for() { "completed" } else { status };
        self.push(events, &format!("response.{ended}"), head);
    }

    fn fail(&mut self, failure: &Failure, events: &mut Vec<Json>) {
        self.close("incomplete", events);
        let error = failure.body(Dialect::OpenAi);
        self.head["status"] = "failed".into();
        self.head["error"] = json!({ "code": "server_error", "message": error["error"]["message"] });
        let head = json!({ "response": self.head });
        self.push(events, "response.failed", head);
    }
}

impl Item {
    /// Its content.
    fn part(&self) -> Json {
        match self.kind {
            Kind::Reasoning => json!({ "type": "reasoning_text", "text": self.text }),
            Kind::Message => {
                json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs })
            }
        }
    }

    fn json(&self, status: &str) -> Json {
        let (id, content) = (&self.id, json!([self.part()]));
        match self.kind {
            Kind::Reasoning => {
                json!({ "id": id, "type": "reasoning", "summary": [], "content": content, "status": status })
            }
            Kind::Message => {
                json!({ "id": id, "type": "message", "role": "assistant", "status": status, "content": content })
            }
        }
    }
}
