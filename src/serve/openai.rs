//! OpenAI's dialect: chat completions, and code shared by both kinds of completions. Text completions are in `completions`.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, CompleteChoice, Question, Tokens};
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::models::{ServedModel, now};
use super::offers::Offer;
use super::prompt::{self, Prompt};
use super::reply::{Form, PING, Reply, Sink};
use super::settings::{MOST_CHOICES, Settings, new_id};
use super::timings::{Meter, Telemetry, timings};
use super::tools;
use crate::engine::{Logprobs, Tools};
use crate::tokenizer::Tokenizer;

/// Version of the program that answers.
pub(super) const FINGERPRINT: &str = concat!("gguf-", env!("CARGO_PKG_VERSION"));
/// The names of the field with the maximum tokens of an answer.
pub(super) const LIMITS: &[&str] = &["max_completion_tokens", "max_tokens", "n_predict"];

/// The fields that all objects of one answer share.
#[derive(Clone)]
pub(super) struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    /// llama-server's `__verbose`, for the last object.
    verbose: Option<Json>,
}

impl Head {
    pub(super) fn new(prefix: &str, object: &'static str, model: &ServedModel) -> Self {
        let id = new_id(&format!("{prefix}-"));
        Self { id, object, created: now(), model: model.id.clone(), verbose: None }
    }

    /// With what the last object tells of the request.
    fn verbose(self, verbose: Option<Json>) -> Self {
        Self { verbose, ..self }
    }

    /// An object with these choices.
    pub(super) fn with(&self, choices: &[Json]) -> Json {
        json!({
            "id": self.id, "object": self.object, "created": self.created, "model": self.model,
            "system_fingerprint": FINGERPRINT, "choices": choices,
        })
    }

    /// A complete answer with `choices` choices per prompt; `choice` renders one by its index.
    pub(super) fn whole(
        &self,
        whole: &[CompleteChoice],
        choices: usize,
        choice: impl Fn(usize, &CompleteChoice) -> Json,
    ) -> Reply {
        let all: Vec<Json> = whole.iter().enumerate().map(|(i, whole)| choice(i, whole)).collect();
        let endings: Vec<ChoiceEnd> = whole.iter().map(|whole| whole.ending.clone()).collect();
        let mut answer = self.with(&all);
        answer["usage"] = usage(&endings, choices);
        answer["timings"] = timings(&endings[0].usage);
        if let Some(verbose) = &self.verbose {
            answer["__verbose"] = verbose.clone();
        }
        Reply::Json(answer)
    }
}

/// Token usage as OpenAI counts it: prompts once, however many choices they have.
pub(super) fn usage(endings: &[ChoiceEnd], choices: usize) -> Json {
    let sum = |of: fn(&ChoiceEnd) -> usize| endings.iter().map(of).sum::<usize>();
    let firsts = || endings.iter().step_by(choices.max(1));
    let prompt: usize = firsts().map(|ending| ending.usage.prompt_tokens).sum();
    let cached: usize = firsts().map(|ending| ending.usage.cached_tokens).sum();
    let answer = sum(|ending| ending.usage.answer_tokens);
    json!({
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer,
        "prompt_tokens_details": { "cached_tokens": cached },
        "completion_tokens_details": { "reasoning_tokens": sum(|ending| ending.thinking_tokens) },
    })
}

/// A token with its text, bytes and probability.
pub(super) fn token_logprob(tokenizer: &Tokenizer, token: u32, logprob: f32) -> Json {
    let bytes = tokenizer.piece(token);
    // JSON has no infinity.
    let logprob = if logprob.is_finite() { logprob } else { -9999.0 };
    json!({ "id": token, "token": String::from_utf8_lossy(bytes), "bytes": bytes, "logprob": logprob })
}

/// Tokens with their probabilities and those of the likeliest.
pub(super) fn logprob_list(tokenizer: &Tokenizer, tokens: &Tokens) -> Vec<Json> {
    let one = |(token, logprobs): &(u32, Option<Logprobs>)| {
        let logprobs = logprobs.as_ref()?;
        let mut json = token_logprob(tokenizer, *token, logprobs.taken);
        let top = logprobs.top.iter().map(|&(token, logprob)| token_logprob(tokenizer, token, logprob));
        json["top_logprobs"] = top.collect();
        Some(json)
    };
    tokens.iter().filter_map(one).collect()
}

/// Refuses fields with unsupported requests.
fn refuse_unsupported(fields: Fields<'_>) -> Result<(), Failure> {
    for (name, what) in
        [("functions", "tools take their place"), ("audio", "only text"), ("web_search_options", "there is no search")]
    {
        let is_empty = |value: &Json| value.as_array().is_some_and(Vec::is_empty);
        if fields.get(name).is_some_and(|value| !is_empty(value)) {
            return Err(Failure::unsupported(name, what));
        }
    }
    let modalities = fields.texts("modalities")?;
    if modalities.iter().any(|modality| modality != "text") {
        return Err(Failure::unsupported("modalities", "only text"));
    }
    Ok(())
}

/// Variables of the template that a request sets.
fn variables(model: &ServedModel, fields: Fields<'_>) -> Result<Map<String, Json>, Failure> {
    let mut variables = fields.object("chat_template_kwargs")?.map(|map| map.0.clone()).unwrap_or_default();
    if variables.get("enable_thinking").is_some_and(|value| !value.is_boolean()) {
        return Err(Failure::field("chat_template_kwargs.enable_thinking", "must be true or false"));
    }
    if let Some(generation) = fields.get("add_generation_prompt") {
        if generation == true && fields.flag("continue_final_message")? {
            return Err(Failure::field("add_generation_prompt", "must not be true with continue_final_message"));
        }
        variables.entry("add_generation_prompt").or_insert(generation.clone());
    }
    if let Some(effort) = fields.text("reasoning_effort")? {
        variables.entry("reasoning_effort").or_insert(effort.into());
        variables.entry("enable_thinking").or_insert((effort != "none").into());
    }
    // As in llama-server: thinking is on for models that support it, unless a request or the server switches it off.
    prompt::switch_thinking(model, Some(true), &mut variables);
    Ok(variables)
}

/// Renders the messages of a request.
async fn prompt(model: &Arc<ServedModel>, fields: Fields<'_>, tools: Option<&Tools>) -> Result<Prompt, Failure> {
    let messages = fields.list("messages")?.ok_or_else(|| Failure::field("messages", "is needed"))?.clone();
    prompt::prompt(model, messages, tools, variables(model, fields)?).await
}

/// What the model reads of a chat's request.
pub(super) async fn prompt_alone(model: &Arc<ServedModel>, fields: Fields<'_>) -> Result<Prompt, Failure> {
    prompt(model, fields, tools::read(fields)?.as_deref()).await
}

/// `POST /v1/chat/completions/input_tokens`: llama-server's count of a conversation's tokens.
pub(super) async fn count_tokens(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    Ok(Reply::Json(json!({ "input_tokens": prompt_alone(&model, fields).await?.tokens.len() })))
}

/// `POST /v1/chat/completions`.
pub(super) async fn chat(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    refuse_unsupported(fields)?;
    let choices = fields.count("n", 1, MOST_CHOICES)?.unwrap_or(1);
    let logprobs = match (fields.flag("logprobs")?, fields.count("top_logprobs", 0, 20)?) {
        (false, Some(top)) if top > 0 => return Err(Failure::field("top_logprobs", "needs logprobs to be true")),
        (on, top) => on.then_some(top.unwrap_or(0)),
    };
    let stream = fields.flag("stream")?;
    let wants = Wants::read(fields, logprobs)?;
    let verbose = fields.flag_or("verbose", call.verbose)?;
    let mut settings = Settings::read(fields, &model, call.salt, LIMITS)?;
    settings.tools = tools::read(fields)?;
    let split = fields.text("reasoning_format")? != Some("none");
    let prompt = prompt(&model, fields, settings.tools.as_deref()).await?;
    let question = Question {
        prompts: vec![prompt.tokens],
        choices,
        thinking: split.then_some(prompt.thinks),
        logprobs,
        settings,
    };
    let answers = Answers::ask(&model, question).await?;
    let verbose = verbose.then(|| json!({ "prompt": prompt.text }));
    if stream {
        let head = Head::new("chatcmpl", "chat.completion.chunk", &model).verbose(verbose);
        return Ok(Reply::stream(Form::Events, |sink| chat_stream(sink, head, model, answers, wants)));
    }
    let head = Head::new("chatcmpl", "chat.completion", &model).verbose(verbose);
    let tokenizer = model.batcher().model().tokenizer();
    let whole = answers.whole().await?;
    let choice = |i: usize, whole: &CompleteChoice| {
        let mut message = json!({ "role": "assistant", "content": whole.text, "refusal": null });
        if !whole.thinking.is_empty() {
            message["reasoning_content"] = whole.thinking.trim_end().into();
            message["reasoning"] = message["reasoning_content"].clone();
        }
        if !whole.calls.is_empty() {
            message["tool_calls"] = whole.calls.iter().map(tools::openai).collect();
            if whole.text.is_empty() {
                message["content"] = Json::Null;
            }
        }
        let logprobs = logprobs.map(|_| json!({ "content": logprob_list(tokenizer, &whole.tokens) }));
        json!({ "index": i, "message": message, "logprobs": logprobs, "finish_reason": whole.ending.finish_reason() })
    };
    Ok(head.whole(&whole, choices, choice))
}

/// Optional content of a stream.
#[derive(Clone, Copy)]
pub(super) struct Wants {
    pub(super) include_usage: bool,
    pub(super) logprobs: bool,
    pub(super) telemetry: Telemetry,
}

/// What a request wants its stream to tell.
pub(super) fn telemetry(fields: Fields<'_>) -> Result<Telemetry, Failure> {
    Ok(Telemetry { progress: fields.flag("return_progress")?, timings: fields.flag("timings_per_token")? })
}

impl Wants {
    pub(super) fn read(fields: Fields<'_>, logprobs: Option<usize>) -> Result<Self, Failure> {
        let options = fields.object("stream_options")?;
        Ok(Self {
            include_usage: options.map(|options| options.flag("include_usage")).transpose()?.unwrap_or(false),
            logprobs: logprobs.is_some(),
            telemetry: telemetry(fields)?,
        })
    }
}

async fn chat_stream(sink: Sink, head: Head, model: Arc<ServedModel>, answers: Answers, wants: Wants) {
    for i in 0..answers.len() {
        let delta = json!({ "role": "assistant", "content": null });
        sink.send(&head.with(&[json!({ "index": i, "delta": delta, "finish_reason": null })])).await;
    }
    let tokenizer = model.batcher().model().tokenizer();
    let choices = answers.len();
    let chunk = |i: usize, thinking: String, text: String, tokens: Tokens| {
        let mut delta = Map::new();
        if !thinking.is_empty() {
            delta.insert("reasoning_content".to_owned(), thinking.as_str().into());
            delta.insert("reasoning".to_owned(), thinking.into());
        }
        if !text.is_empty() || delta.is_empty() {
            delta.insert("content".to_owned(), text.into());
        }
        let mut choice = json!({ "index": i, "delta": delta, "finish_reason": null });
        if wants.logprobs {
            choice["logprobs"] = json!({ "content": logprob_list(tokenizer, &tokens) });
        }
        choice
    };
    let end =
        |i: usize, ending: &ChoiceEnd| json!({ "index": i, "delta": {}, "finish_reason": ending.finish_reason() });
    stream(&sink, &head, answers, choices, wants, chunk, end).await;
}

/// Streams choices: `chunk` renders a piece of text, `end` the last object of a choice.
pub(super) async fn stream(
    sink: &Sink,
    head: &Head,
    mut answers: Answers,
    choices: usize,
    wants: Wants,
    chunk: impl Fn(usize, String, String, Tokens) -> Json,
    end: impl Fn(usize, &ChoiceEnd) -> Json,
) {
    let mut endings: Vec<Option<ChoiceEnd>> = vec![None; answers.len()];
    let mut calls = vec![0; answers.len()];
    let mut meters = vec![Meter::new(wants.telemetry); answers.len()];
    loop {
        let Ok(news) = tokio::time::timeout(PING, answers.next()).await else {
            sink.ping().await;
            continue;
        };
        match news {
            None => break,
            Some(Err(failure)) => {
                sink.send(&failure.body(super::failure::Dialect::OpenAi)).await;
                return;
            }
            Some(Ok((i, ChoiceEvent::Reading { done, cached, total }))) => {
                if let Some((progress, timings)) = meters[i].read(done, cached, total) {
                    let mut object = head.with(&[]);
                    (object["prompt_progress"], object["timings"]) = (progress, timings);
                    sink.send(&object).await;
                }
            }
            Some(Ok((i, ChoiceEvent::Text { thinking, text, tokens }))) => {
                let timings = meters[i].answered(tokens.len());
                let mut object = head.with(&[chunk(i, thinking, text, tokens)]);
                if let Some(timings) = timings {
                    object["timings"] = timings;
                }
                sink.send(&object).await;
            }
            Some(Ok((i, ChoiceEvent::Call(call)))) => {
                let delta = tools::delta(calls[i], &call);
                calls[i] += 1;
                sink.send(&head.with(&[json!({ "index": i, "delta": delta, "finish_reason": null })])).await;
            }
            Some(Ok((i, ChoiceEvent::End(ending)))) => {
                let mut last = head.with(&[end(i, &ending)]);
                last["timings"] = timings(&ending.usage);
                if let Some(verbose) = &head.verbose {
                    last["__verbose"] = verbose.clone();
                }
                endings[i] = Some(ending);
                sink.send(&last).await;
            }
        }
    }
    if wants.include_usage {
        let endings: Vec<ChoiceEnd> = endings.into_iter().flatten().collect();
        let mut last = head.with(&[]);
        last["usage"] = usage(&endings, choices);
        if let Some(first) = endings.first() {
            last["timings"] = timings(&first.usage);
        }
        sink.send(&last).await;
    }
    sink.done().await;
}

/// `GET /v1/models`.
pub(super) async fn models(call: Call) -> Result<Reply, Failure> {
    let data: Vec<Json> = call.models().offers().iter().map(|offer| model_json(offer)).collect();
    // What the page may offer; other clients do not read it.
    let gguf = json!({ "manage": call.manager.is_some(), "report": call.report.is_some() });
    Ok(Reply::Json(json!({ "object": "list", "data": data, "gguf": gguf })))
}

/// `GET /v1/models/{id}`; ids may contain slashes.
pub(super) async fn model(call: Call) -> Result<Reply, Failure> {
    let offer = call.models().offer(&call.rest)?;
    Ok(Reply::Json(model_json(&offer)))
}

fn model_json(offer: &Offer) -> Json {
    let (facts, context_length) = (&offer.facts, offer.look(|model| model.batcher().context_length()));
    json!({
        "id": offer.id, "object": "model", "created": offer.created, "owned_by": "gguf",
        "aliases": offer.labels.aliases, "tags": offer.labels.tags,
        "status": { "value": if context_length.is_some() { "loaded" } else { "unloaded" } },
        "meta": {
            "n_vocab": facts.vocab_size, "n_ctx": context_length,
            "n_ctx_train": facts.context_length, "n_embd": facts.embedding_length,
            "n_params": facts.parameters, "size": facts.weight_bytes, "ftype": facts.file_type,
        },
    })
}
