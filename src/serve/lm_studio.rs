//! LM Studio's REST dialects: `/api/v0`, which is OpenAI's with figures, and `/api/v1` with its own chats and lists of models.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, Question};
use super::call::Call;
use super::failure::{Dialect, Failure};
use super::fields::Fields;
use super::models::ServedModel;
use super::offers::Offer;
use super::openai;
use super::reply::{Form, PING, Reply, Sink};
use super::settings::{Settings, new_id};
use super::stored::{Responses, Stored};
use super::timings::timings;
use super::{completions, embeddings};
use crate::modelfile::parameter_size;

/// Fields of `/api/v1/chat` that have the same meaning in a chat of OpenAI's.
const SAME: [&str; 8] = ["model", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "ttl"];

fn kind(offer: &Offer) -> &'static str {
    if offer.abilities().only_embeds { "embeddings" } else { "llm" }
}

/// The publisher of a name like `org/repository:type`.
fn publisher(offer: &Offer) -> &str {
    offer.id.split_once('/').map_or("", |(publisher, _)| publisher)
}

fn model_v0(offer: &Offer) -> Json {
    let context_length = offer.look(|model| model.batcher().context_length());
    let mut json = json!({
        "id": offer.id, "object": "model", "type": kind(offer), "publisher": publisher(offer),
        "arch": offer.facts.architecture, "compatibility_type": "gguf", "quantization": offer.facts.file_type,
        "state": if context_length.is_some() { "loaded" } else { "not-loaded" },
        "max_context_length": offer.facts.context_length,
    });
    if let Some(context_length) = context_length {
        json["loaded_context_length"] = context_length.into();
    }
    json
}

/// `GET /api/v0/models`.
pub(super) async fn models_v0(call: Call) -> Result<Reply, Failure> {
    let data: Vec<Json> = call.models().offers().iter().map(|offer| model_v0(offer)).collect();
    Ok(Reply::Json(json!({ "object": "list", "data": data })))
}

/// `GET /api/v0/models/{id}`.
pub(super) async fn model_v0_of(call: Call) -> Result<Reply, Failure> {
    let offer = call.models().offer(&call.rest)?;
    Ok(Reply::Json(model_v0(&offer)))
}

/// `POST /api/v0/chat/completions`.
pub(super) async fn chat_v0(call: Call) -> Result<Reply, Failure> {
    let models = call.models().clone();
    openai::chat(call).await.map(|reply| with_figures(reply, |id| models.offer(id).ok()))
}

/// `POST /api/v0/completions`.
pub(super) async fn completions_v0(call: Call) -> Result<Reply, Failure> {
    let models = call.models().clone();
    completions::completions(call).await.map(|reply| with_figures(reply, |id| models.offer(id).ok()))
}

/// `POST /api/v0/embeddings`.
pub(super) async fn embeddings_v0(call: Call) -> Result<Reply, Failure> {
    embeddings::embeddings(call).await
}

/// A whole answer of OpenAI's with LM Studio's figures.
fn with_figures(reply: Reply, offer: impl Fn(&str) -> Option<Arc<Offer>>) -> Reply {
    let Reply::Json(mut json) = reply else { return reply };
    let ms = |name: &str| json["timings"][name].as_f64().unwrap_or(0.0);
    let stop_reason = match json["choices"][0]["finish_reason"].as_str() {
        Some("length") => "maxPredictedTokensReached",
        Some("tool_calls") => "toolCalls",
        _ => "eosFound",
    };
    let stats = json!({
        "tokens_per_second": ms("predicted_per_second"), "time_to_first_token": ms("prompt_ms") / 1e3,
        "generation_time": ms("predicted_ms") / 1e3, "stop_reason": stop_reason,
    });
    if let Some(offer) = json["model"].as_str().and_then(offer) {
        let context_length = offer.look(|model| model.batcher().context_length());
        json["model_info"] = json!({
            "arch": offer.facts.architecture, "quant": offer.facts.file_type, "format": "gguf",
            "context_length": context_length,
        });
    }
    json["stats"] = stats;
    json["runtime"] = json!({ "name": "gguf", "version": env!("CARGO_PKG_VERSION"), "supported_formats": ["gguf"] });
    Reply::Json(json)
}

/// `GET /api/v1/models`.
pub(super) async fn models_v1(call: Call) -> Result<Reply, Failure> {
    let model = |offer: &Arc<Offer>| {
        let loaded =
            offer.look(|model| (model.batcher().context_length(), model.batcher().options().session.batch_size));
        let instances: Vec<Json> = loaded
            .iter()
            .map(|(context_length, batch)| {
                let config = json!({ "context_length": context_length, "eval_batch_size": batch });
                json!({ "id": offer.id, "config": config })
            })
            .collect();
        let facts = &offer.facts;
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let bits = 8.0 * facts.weight_bytes as f64 / facts.parameters.max(1) as f64;
        let is_llm = kind(offer) == "llm";
        json!({
            "type": if is_llm { "llm" } else { "embedding" }, "publisher": publisher(offer), "key": offer.id,
            "display_name": offer.id, "architecture": facts.architecture,
            "quantization": { "name": facts.file_type, "bits_per_weight": (bits * 100.0).round() / 100.0 },
            "size_bytes": facts.weight_bytes, "params_string": parameter_size(facts.parameters),
            "loaded_instances": instances, "max_context_length": facts.context_length, "format": "gguf",
            "capabilities": { "vision": false, "trained_for_tool_use": offer.abilities().calls_tools },
            "description": null,
        })
    };
    Ok(Reply::Json(json!({ "models": call.models().offers().iter().map(model).collect::<Vec<_>>() })))
}

/// `POST /api/v1/models/load`. Settings of models are those of the server.
pub(super) async fn load(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    fields.text("model")?.ok_or_else(|| Failure::field("model", "is needed"))?;
    let began = Instant::now();
    let model = call.models().wanted(fields).await?;
    let embeds = !model.batcher().model().decoder().has_logits();
    let mut json = json!({
        "type": if embeds { "embedding" } else { "llm" }, "instance_id": model.id, "status": "loaded",
        "load_time_seconds": began.elapsed().as_secs_f64(),
    });
    if fields.flag("echo_load_config")? {
        json["load_config"] = json!({ "context_length": model.batcher().context_length() });
    }
    Ok(Reply::Json(json))
}

/// `POST /api/v1/models/unload`.
pub(super) async fn unload(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let id = Fields(&body).text("instance_id")?.ok_or_else(|| Failure::field("instance_id", "is needed"))?;
    call.models().unload(&call.models().offer(id)?).await?;
    Ok(Reply::Json(json!({ "instance_id": id })))
}

/// The conversation of a chat of `/api/v1`, without earlier turns.
fn input(fields: Fields<'_>) -> Result<Vec<Json>, Failure> {
    let wrong = || Failure::field("input", "must be a text, or an array of texts");
    let text = match fields.get("input") {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Array(items)) => {
            let text = |item: &Json| match item["type"].as_str() {
                Some("text" | "message") => item["content"].as_str().map(str::to_owned),
                _ => None,
            };
            items.iter().map(text).collect::<Option<Vec<_>>>().ok_or_else(wrong)?.join("\n")
        }
        _ => return Err(wrong()),
    };
    Ok(vec![json!({ "role": "user", "content": text })])
}

/// `POST /api/v1/chat`.
pub(super) async fn chat(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    if fields.list("integrations")?.is_some_and(|all| !all.is_empty()) {
        return Err(Failure::unsupported("integrations", "no tools are run here"));
    }
    let mut conversation = match fields.text("previous_response_id")? {
        Some(id) => {
            let stored = call.responses.find(call.salt, id);
            stored.ok_or_else(|| Failure::field("previous_response_id", "is not that of a stored response"))?.messages()
        }
        None => Vec::new(),
    };
    let has_system = conversation.first().is_some_and(|message| message["role"] == "system");
    if let Some(system) = fields.text("system_prompt")?.filter(|_| !has_system) {
        conversation.insert(0, json!({ "role": "system", "content": system }));
    }
    conversation.extend(input(fields)?);
    let mut same: Map<String, Json> =
        SAME.iter().filter_map(|name| Some(((*name).to_owned(), fields.get(name)?.clone()))).collect();
    same.insert("messages".to_owned(), conversation.clone().into());
    same.insert("max_tokens".to_owned(), fields.get("max_output_tokens").cloned().unwrap_or(Json::Null));
    match fields.text("reasoning")? {
        None | Some("on") => {}
        Some("off") => drop(same.insert("reasoning_effort".to_owned(), "none".into())),
        Some(effort @ ("low" | "medium" | "high")) => {
            same.insert("reasoning_effort".to_owned(), effort.into());
        }
        Some(_) => return Err(Failure::field("reasoning", "must be off, low, medium, high or on")),
    }
    let asked = Fields(&same);
    let began = Instant::now();
    let model = call.models().wanted(asked).await?;
    let settings = Settings::read(asked, &model, call.salt, &["max_tokens"])?;
    let stream = fields.flag("stream")?;
    let store = fields.flag_or("store", true)?.then(|| call.responses.clone());
    let prompt = openai::prompt_alone(&model, asked).await?;
    let question =
        Question { prompts: vec![prompt.tokens], choices: 1, thinking: Some(prompt.thinks), logprobs: None, settings };
    let answers = Answers::ask(&model, question).await?;
    let turn = Turn { model, store, salt: call.salt, conversation, began, first: None, open: None, output: Vec::new() };
    if stream {
        return Ok(Reply::stream(Form::Events, |sink| run(sink, turn, answers)));
    }
    let mut turn = turn;
    let mut answers = answers;
    while let Some(news) = answers.next().await {
        match news?.1 {
            ChoiceEvent::Text { thinking, text, .. } => drop(turn.add(&thinking, &text)),
            ChoiceEvent::End(ending) => return Ok(Reply::Json(turn.end(&ending))),
            _ => {}
        }
    }
    Err(crate::engine::Error::Stopped.into())
}

/// A chat's answer in the making.
struct Turn {
    model: Arc<ServedModel>,
    store: Option<Arc<Responses>>,
    salt: u64,
    conversation: Vec<Json>,
    began: Instant,
    first: Option<Instant>,
    /// The kind of the item that is open.
    open: Option<&'static str>,
    /// Kinds and texts.
    output: Vec<(&'static str, String)>,
}

impl Turn {
    /// Takes a piece; returns the events for it.
    fn add(&mut self, thinking: &str, text: &str) -> Vec<Json> {
        let mut events = Vec::new();
        for (kind, text) in
            [("reasoning", thinking), ("message", text)].into_iter().filter(|(_, text)| !text.is_empty())
        {
            self.first.get_or_insert_with(Instant::now);
            if self.open != Some(kind) {
                events.extend(self.close());
                events.push(json!({ "type": format!("{kind}.start") }));
                self.open = Some(kind);
                self.output.push((kind, String::new()));
            }
            events.push(json!({ "type": format!("{kind}.delta"), "content": text }));
            if let Some((_, all)) = self.output.last_mut() {
                all.push_str(text);
            }
        }
        events
    }

    /// The event for the end of the open item.
    fn close(&mut self) -> Option<Json> {
        self.open.take().map(|kind| json!({ "type": format!("{kind}.end") }))
    }

    /// The whole answer, which is stored if that is wanted.
    fn end(mut self, ending: &ChoiceEnd) -> Json {
        let figures = timings(&ending.usage);
        let first = self.first.map_or(0.0, |first| (first - self.began).as_secs_f64());
        let output: Vec<Json> =
            self.output.iter().map(|(kind, content)| json!({ "type": kind, "content": content })).collect();
        let mut json = json!({
            "model_instance_id": self.model.id, "output": output,
            "stats": {
                "input_tokens": ending.usage.prompt_tokens, "total_output_tokens": ending.usage.answer_tokens,
                "reasoning_output_tokens": ending.thinking_tokens,
                "tokens_per_second": figures["predicted_per_second"], "time_to_first_token_seconds": first,
            },
        });
        if let Some(responses) = self.store.take() {
            let id = new_id("resp_");
            json["response_id"] = id.as_str().into();
            let messages = self.output.iter().filter(|(kind, _)| *kind == "message").map(|(_, text)| text.as_str());
            let said = messages.collect::<String>();
            self.conversation.push(json!({ "role": "assistant", "content": said }));
            let response = json!({ "id": id, "object": "response", "model": self.model.id, "output": output });
            responses.insert(self.salt, id, Stored::new(&response, &Json::Null, &self.conversation));
        }
        json
    }
}

async fn send(sink: &Sink, event: Json) {
    sink.event(event["type"].as_str().unwrap_or_default(), &event).await;
}

async fn run(sink: Sink, mut turn: Turn, mut answers: Answers) {
    send(&sink, json!({ "type": "chat.start", "model_instance_id": turn.model.id })).await;
    send(&sink, json!({ "type": "prompt_processing.start" })).await;
    let mut reading = true;
    loop {
        let Ok(news) = tokio::time::timeout(PING, answers.next()).await else {
            sink.ping().await;
            continue;
        };
        let event = match news {
            None => return,
            Some(Err(failure)) => {
                let error = failure.body(Dialect::OpenAi)["error"].clone();
                return send(&sink, json!({ "type": "error", "error": error })).await;
            }
            Some(Ok((_, event))) => event,
        };
        if let ChoiceEvent::Reading { done, total, .. } = event {
            #[allow(clippy::cast_precision_loss, reason = "a share")]
            let progress = done as f64 / total.max(1) as f64;
            send(&sink, json!({ "type": "prompt_processing.progress", "progress": progress })).await;
            continue;
        }
        if std::mem::take(&mut reading) {
            send(&sink, json!({ "type": "prompt_processing.end" })).await;
        }
        match event {
            ChoiceEvent::Text { thinking, text, .. } => {
                for event in turn.add(&thinking, &text) {
                    send(&sink, event).await;
                }
            }
            ChoiceEvent::End(ending) => {
                if let Some(event) = turn.close() {
                    send(&sink, event).await;
                }
                return send(&sink, json!({ "type": "chat.end", "result": turn.end(&ending) })).await;
            }
            ChoiceEvent::Reading { .. } | ChoiceEvent::Call(_) => {}
        }
    }
}
