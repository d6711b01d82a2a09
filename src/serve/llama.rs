//! llama-server's own routes: completions of plain text, tokens, the chat template, properties of the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, CompleteChoice, Question, Tokens};
use super::blocking::blocking;
use super::call::Call;
use super::completions::{known_token, prompts};
use super::failure::{Dialect, Failure};
use super::fields::Fields;
use super::models::ServedModel;
use super::openai::{self, FINGERPRINT, LIMITS, logprob_list, timings};
use super::reply::{Form, Reply, Sink};
use super::settings::{MOST_CHOICES, Settings, shown};
use crate::engine::{InfillTokens, Stop, Usage};
use crate::model::Applied;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// `GET /health`.
pub(super) async fn health(call: Call) -> Result<Reply, Failure> {
    if call.models().loaded().iter().all(|model| model.batcher().is_running()) {
        Ok(Reply::Json(json!({ "status": "ok" })))
    } else {
        Err(crate::engine::Error::Stopped.into())
    }
}

/// Data for the objects of a completion besides the answer.
struct Frame {
    model: Arc<ServedModel>,
    settings: Json,
    prompts: Vec<String>,
    choices: usize,
    with_tokens: bool,
    with_probabilities: bool,
    /// Whether the progress of prompts is sent.
    with_progress: bool,
}

impl Frame {
    fn tokenizer(&self) -> &Tokenizer {
        self.model.batcher().model().tokenizer()
    }

    /// The object of a complete choice.
    fn whole(&self, i: usize, whole: &CompleteChoice) -> Json {
        let (usage, ending) = (whole.ending.usage, &whole.ending);
        let stop_type = match ending.reason {
            Stop::End => "eos",
            Stop::Text => "word",
            Stop::Length | Stop::Context => "limit",
            _ => "none",
        };
        let ids: Vec<u32> = whole.tokens.iter().map(|(token, _)| *token).filter(|_| self.with_tokens).collect();
        let mut json = json!({
            "index": i, "content": whole.text, "tokens": ids, "id_slot": -1, "stop": true, "model": self.model.id,
            "tokens_predicted": usage.answer_tokens, "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": self.settings, "prompt": self.prompts[i / self.choices],
            "has_new_line": whole.text.contains('\n'), "truncated": false, "stop_type": stop_type,
            "stopping_word": ending.stop_text.as_deref().unwrap_or_default(),
            "tokens_cached": usage.prompt_tokens + usage.answer_tokens, "timings": timings(&usage),
        });
        if self.with_probabilities {
            json["completion_probabilities"] = logprob_list(self.tokenizer(), &whole.tokens).into();
        }
        json
    }

    /// The object of a piece of a choice.
    fn piece(&self, i: usize, text: &str, tokens: &Tokens) -> Json {
        let ids: Vec<u32> = tokens.iter().map(|(token, _)| *token).collect();
        let mut json = json!({ "index": i, "content": text, "tokens": ids, "stop": false, "id_slot": -1 });
        if self.with_probabilities {
            json["completion_probabilities"] = logprob_list(self.tokenizer(), tokens).into();
        }
        json
    }
}

/// `POST /completion`.
pub(super) async fn completion(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let prompts = prompts(&model, fields).await?;
    answer(&call, fields, model, prompts).await
}

/// `POST /infill`: the text between two others.
pub(super) async fn infill(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let text = |name: &'static str| fields.text(name).map(Option::unwrap_or_default);
    // The start of the current line follows the prefix.
    let before = format!("{}{}", text("input_prefix")?, text("prompt")?);
    let after = text("input_suffix")?.to_owned();
    let file = |(i, file): (usize, &Json)| {
        let part = |name: &str| file[name].as_str().map(str::to_owned);
        let wrong =
            || Failure::field(&format!("input_extra[{i}]"), "must have a text, and a filename that is a string");
        let name = if file["filename"].is_null() { Some("tmp".to_owned()) } else { part("filename") };
        Ok((name.ok_or_else(wrong)?, part("text").ok_or_else(wrong)?))
    };
    let files = fields.list("input_extra")?.into_iter().flatten().enumerate().map(file);
    let files: Vec<(String, String)> = files.collect::<Result<_, Failure>>()?;
    let own = model.clone();
    let prompt = blocking(move || {
        let running = own.batcher().model();
        let tokens = InfillTokens::of(running);
        let tokens = tokens.ok_or_else(|| Failure::not_done("the model has no tokens for filling in (FIM)"))?;
        let prompt = tokens.prompt(running.tokenizer(), &before, &after, &files);
        prompt.map_err(|error| Failure::invalid(error.to_string()))
    });
    let prompt = prompt.await?;
    answer(&call, fields, model, vec![prompt]).await
}

async fn answer(
    call: &Call,
    fields: Fields<'_>,
    model: Arc<ServedModel>,
    prompts: Vec<Vec<u32>>,
) -> Result<Reply, Failure> {
    if fields.flag("post_sampling_probs")? {
        return Err(Failure::unsupported("post_sampling_probs", "probabilities are those before the samplers"));
    }
    let limits: Vec<&str> = LIMITS.iter().rev().copied().collect();
    let settings = Settings::read(fields, &model, call.salt, &limits)?;
    let logprobs = fields.count("n_probs", 0, 1 << 20)?.filter(|n| *n > 0);
    let choices = match fields.count("n_cmpl", 1, MOST_CHOICES)? {
        Some(choices) => choices,
        None => fields.count("n", 1, MOST_CHOICES)?.unwrap_or(1),
    };
    let (stream, with_tokens) = (fields.flag("stream")?, fields.flag("return_tokens")?);
    let tokenizer = model.batcher().model().tokenizer();
    let texts = prompts.iter().map(|prompt| tokenizer.decode(prompt, true)).collect();
    let mut shown_settings = shown(&settings.sampler);
    shown_settings.insert("n_predict".to_owned(), settings.max_tokens.map_or(json!(-1), Json::from));
    shown_settings.insert("max_tokens".to_owned(), shown_settings["n_predict"].clone());
    shown_settings.insert("stop".to_owned(), settings.stop.clone().into());
    shown_settings.insert("ignore_eos".to_owned(), settings.ignore_end.into());
    shown_settings.insert("logit_bias".to_owned(), biases(&settings, tokenizer));
    shown_settings.insert("stream".to_owned(), stream.into());
    shown_settings.insert("n_probs".to_owned(), logprobs.unwrap_or(0).into());
    let settings_shown = Json::Object(shown_settings);
    let with_probabilities = logprobs.is_some();
    let answers = Answers::ask(&model, Question { prompts, choices, thinking: None, logprobs, settings }).await?;
    let frame = Frame {
        model,
        settings: settings_shown,
        prompts: texts,
        choices,
        with_tokens,
        with_probabilities,
        with_progress: fields.flag("return_progress")?,
    };
    if stream {
        return Ok(Reply::stream(Form::Events, |sink| stream_completion(sink, frame, answers)));
    }
    let whole = answers.whole().await?;
    let mut all: Vec<Json> = whole.iter().enumerate().map(|(i, whole)| frame.whole(i, whole)).collect();
    Ok(Reply::Json(if all.len() == 1 { all.remove(0) } else { all.into() }))
}

/// Logit biases in llama-server's form; `null` excludes a token.
fn biases(settings: &Settings, tokenizer: &Tokenizer) -> Json {
    let bias = |token: u32, bias: f32| json!({ "token": token, "bias": bias.is_finite().then_some(bias) });
    let given = settings.sampler.logit_bias.iter().map(|&(token, value)| bias(token, value));
    let ends = if settings.ignore_end { tokenizer.end_tokens() } else { &[] };
    given.chain(ends.iter().map(|&token| bias(token, f32::NEG_INFINITY))).collect()
}

/// Progress of a prompt in llama-server's form.
fn progress(done: usize, cached: usize, total: usize, time: Duration) -> (Json, Json) {
    let usage = Usage { prompt_tokens: done, cached_tokens: cached, prompt_time: time, ..Usage::default() };
    let mut timings = timings(&usage);
    if done == cached {
        timings["prompt_ms"] = 0.0.into();
    }
    timings["predicted_ms"] = 0.0.into();
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    (json!({ "total": total, "cache": cached, "processed": done, "time_ms": ms }), timings)
}

async fn stream_completion(sink: Sink, frame: Frame, mut answers: Answers) {
    let mut began = None;
    while let Some(news) = answers.next().await {
        match news {
            Err(failure) => return sink.send(&failure.body(Dialect::OpenAi)).await,
            Ok((i, ChoiceEvent::Reading { done, cached, total })) if frame.with_progress => {
                let time = began.get_or_insert_with(Instant::now).elapsed();
                let mut piece = frame.piece(i, "", &Vec::new());
                (piece["prompt_progress"], piece["timings"]) = progress(done, cached, total, time);
                sink.send(&piece).await;
            }
            Ok((_, ChoiceEvent::Reading { .. } | ChoiceEvent::Call(_))) => {}
            Ok((i, ChoiceEvent::Text { text, tokens, .. })) => sink.send(&frame.piece(i, &text, &tokens)).await,
            Ok((i, ChoiceEvent::End(ending))) => sink.send(&frame.whole(i, &ended(ending))).await,
        }
    }
}

/// The final object of a stream, which has no text.
fn ended(ending: ChoiceEnd) -> CompleteChoice {
    CompleteChoice { thinking: String::new(), text: String::new(), calls: Vec::new(), tokens: Vec::new(), ending }
}

/// `POST /tokenize`.
pub(super) async fn tokenize(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let content = fields.text("content")?.unwrap_or_default().to_owned();
    let parse_special = fields.flag_or("parse_special", true)?;
    let options = EncodeOptions { add_special: fields.flag("add_special")?, parse_special };
    let with_pieces = fields.flag("with_pieces")?;
    let work = move || {
        let tokenizer = model.batcher().model().tokenizer();
        let tokens = tokenizer.encode(&content, options).map_err(|error| Failure::field("content", error))?;
        let piece = |&id: &u32| {
            let bytes = tokenizer.piece(id);
            let text = std::str::from_utf8(bytes).map_or_else(|_| Json::from(bytes), Json::from);
            json!({ "id": id, "piece": text })
        };
        let tokens: Json = if with_pieces { tokens.iter().map(piece).collect() } else { tokens.into() };
        Ok(Reply::Json(json!({ "tokens": tokens })))
    };
    blocking(work).await
}

/// `POST /detokenize`.
pub(super) async fn detokenize(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let tokenizer = model.batcher().model().tokenizer();
    let tokens: Option<Vec<u32>> =
        fields.list("tokens")?.into_iter().flatten().map(|id| known_token(tokenizer, id)).collect();
    let tokens = tokens.ok_or_else(|| Failure::field("tokens", "contains invalid tokens"))?;
    Ok(Reply::Json(json!({ "content": tokenizer.decode(&tokens, true) })))
}

/// `POST /apply-template`.
pub(super) async fn apply_template(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    Ok(Reply::Json(json!({ "prompt": openai::prompt_alone(&model, fields).await?.text })))
}

/// `GET /props`, for the first loaded model.
pub(super) async fn props(call: Call) -> Result<Reply, Failure> {
    let model = call.models().first()?;
    let tokenizer = model.batcher().model().tokenizer();
    let special = &tokenizer.vocab().special;
    let text = |id: Option<u32>| id.map(|id| String::from_utf8_lossy(tokenizer.piece(id)).into_owned());
    let path = model.path.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    Ok(Reply::Json(json!({
        "default_generation_settings": {
            "n_ctx": model.batcher().context_length(), "params": shown(&model.defaults.sampler),
        },
        "total_slots": model.batcher().options().parallel, "model_alias": model.id, "model_path": path,
        "model_ftype": model.quantization(), "modalities": { "vision": false, "audio": false },
        "chat_template": model.prompter.template.source(),
        "bos_token": text(special.bos).unwrap_or_default(), "eos_token": text(special.eos).unwrap_or_default(),
        "build_info": FINGERPRINT, "is_sleeping": false,
    })))
}

/// `GET /slots`, for the first loaded model.
pub(super) async fn slots(call: Call) -> Result<Reply, Failure> {
    let model = call.models().first()?;
    let (batcher, status) = (model.batcher(), model.batcher().status());
    let slot = |id: usize| {
        let active = status.active.iter().find(|active| active.slot == id);
        json!({
            "id": id, "n_ctx": batcher.context_length(), "is_processing": active.is_some(),
            "is_generating": active.is_some_and(|active| active.is_generating),
            "n_prompt_tokens": active.map_or(0, |active| active.prompt_tokens),
            "n_decoded": active.map_or(0, |active| active.answer_tokens),
            "cache_bytes": active.map_or(0, |active| active.cache_bytes),
        })
    };
    Ok(Reply::Json((0..batcher.options().parallel).map(slot).collect()))
}

/// `POST /models/load`.
pub(super) async fn load(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    fields.text("model")?.ok_or_else(|| Failure::field("model", "is needed"))?;
    call.models().wanted(fields).await?;
    Ok(Reply::Json(json!({ "success": true })))
}

/// `POST /models/unload`.
pub(super) async fn unload(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let name = Fields(&body).text("model")?.ok_or_else(|| Failure::field("model", "is needed"))?;
    call.models().unload(&call.models().offer(name)?).await?;
    Ok(Reply::Json(json!({ "success": true })))
}

/// The adapters of the first model that is loaded: the names of their files, and how strong they are.
fn adapters_of(call: &Call) -> Vec<Json> {
    let Ok(model) = call.models().first() else { return Vec::new() };
    let adapter = |(id, adapter): (usize, &Applied)| {
        let name = adapter.path.file_name().unwrap_or_default().to_string_lossy();
        json!({ "id": id, "path": name, "scale": adapter.scale })
    };
    model.batcher().model().applied().iter().enumerate().map(adapter).collect()
}

/// `GET /lora-adapters`.
pub(super) async fn adapters(call: Call) -> Result<Reply, Failure> {
    Ok(Reply::Json(adapters_of(&call).into()))
}

/// `POST /lora-adapters`: what holds already is taken. Adapters that are not named are not to count.
pub(super) async fn set_adapters(call: Call) -> Result<Reply, Failure> {
    let Ok(Json::Array(wanted)) = serde_json::from_slice::<Json>(&call.body) else {
        return Err(Failure::invalid("the body must be an array of adapters: [{\"id\": 0, \"scale\": 1.0}]"));
    };
    let holds = |adapter: &Json| {
        let same = wanted.iter().find(|wanted| wanted["id"] == adapter["id"]);
        same.map_or(Some(0.0), |wanted| wanted["scale"].as_f64()) == adapter["scale"].as_f64()
    };
    let all = adapters_of(&call);
    let is_known = |wanted: &Json| all.iter().any(|adapter| adapter["id"] == wanted["id"]);
    if wanted.iter().all(is_known) && all.iter().all(holds) {
        return Ok(Reply::Json(json!({ "success": true })));
    }
    Err(Failure::not_done("adapters are those that the model was loaded with, and stay as strong as they are"))
}

/// `POST /slots/{id}?action=save`: not supported, since requests do not choose slots and prefixes are cached automatically.
pub(super) async fn slot_files(_: Call) -> Result<Reply, Failure> {
    Err(Failure::not_done("states of slots are not written to files: prefixes of earlier requests are kept in memory"))
}
