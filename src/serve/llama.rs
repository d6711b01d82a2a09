//! llama-server's own routes: completions of plain text, tokens, the chat template, properties of the server.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, CompleteChoice, Question, Tokens};
use super::blocking::blocking;
use super::call::Call;
use super::completions::{known_token, prompts};
use super::failure::{Dialect, Failure};
use super::fields::Fields;
use super::models::ServedModel;
use super::openai::{self, FINGERPRINT, LIMITS, logprob_list};
use super::reply::{Form, Reply, Sink};
use super::settings::{MOST_CHOICES, Settings, shown};
use super::timings::{Meter, Telemetry, timings};
use crate::engine::{InfillTokens, Stop};
use crate::model::Applied;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// `GET /health`.
pub(super) async fn health(call: Call) -> Result<Reply, Failure> {
    if call.models().offers().iter().all(|offer| offer.look(|model| model.batcher().is_running()) != Some(false)) {
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
    probabilities: Probabilities,
    telemetry: Telemetry,
    /// The fields of a complete answer that are wanted, by their paths (`timings/predicted_n`); all, if there are none.
    response_fields: Vec<String>,
}

/// Which probabilities tokens have.
#[derive(Clone, Copy, PartialEq)]
enum Probabilities {
    None,
    /// Those of the model, as logarithms.
    Logarithms,
    /// Those after the samplers.
    AfterSamplers,
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
            "index": i, "content": whole.text, "tokens": ids, "id_slot": ending.slot, "stop": true, "model": self.model.id,
            "tokens_predicted": usage.answer_tokens, "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": self.settings, "prompt": self.prompts[i / self.choices],
            "has_new_line": whole.text.contains('\n'), "truncated": false, "stop_type": stop_type,
            "stopping_word": ending.stop_text.as_deref().unwrap_or_default(),
            "tokens_cached": usage.prompt_tokens + usage.answer_tokens, "timings": timings(&usage),
        });
        self.add_probabilities(&mut json, &whole.tokens);
        if self.response_fields.is_empty() {
            return json;
        }
        let wanted = |path: &String| Some((path.clone(), json.pointer(&format!("/{path}"))?.clone()));
        Json::Object(self.response_fields.iter().filter_map(wanted).collect())
    }

    /// The object of a piece of a choice.
    fn piece(&self, (i, slot): (usize, usize), text: &str, tokens: &Tokens) -> Json {
        let ids: Vec<u32> = tokens.iter().map(|(token, _)| *token).collect();
        let mut json = json!({ "index": i, "content": text, "tokens": ids, "stop": false, "id_slot": slot });
        self.add_probabilities(&mut json, tokens);
        json
    }

    fn add_probabilities(&self, json: &mut Json, tokens: &Tokens) {
        let list = match self.probabilities {
            Probabilities::None => return,
            Probabilities::Logarithms => logprob_list(self.tokenizer(), tokens),
            Probabilities::AfterSamplers => {
                logprob_list(self.tokenizer(), tokens).into_iter().map(of_logarithms).collect()
            }
        };
        json["completion_probabilities"] = list.into();
    }
}

/// A token whose probabilities are no logarithms, with llama-server's names.
fn of_logarithms(mut token: Json) -> Json {
    let Some(map) = token.as_object_mut() else { return token };
    if let Some(logprob) = map.remove("logprob").and_then(|logprob| logprob.as_f64()) {
        map.insert("prob".to_owned(), logprob.exp().into());
    }
    if let Some(Json::Array(top)) = map.remove("top_logprobs") {
        map.insert("top_probs".to_owned(), top.into_iter().map(of_logarithms).collect());
    }
    token
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
    let limits: Vec<&str> = LIMITS.iter().rev().copied().collect();
    let mut settings = Settings::read(fields, &model, call.salt, &limits)?;
    settings.after_samplers = fields.flag("post_sampling_probs")?;
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
    let probabilities = match logprobs {
        None => Probabilities::None,
        Some(_) if settings.after_samplers => Probabilities::AfterSamplers,
        Some(_) => Probabilities::Logarithms,
    };
    let answers = Answers::ask(&model, Question { prompts, choices, thinking: None, logprobs, settings }).await?;
    let frame = Frame {
        model,
        settings: settings_shown,
        prompts: texts,
        choices,
        with_tokens,
        probabilities,
        telemetry: openai::telemetry(fields)?,
        response_fields: fields.texts("response_fields")?,
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

async fn stream_completion(sink: Sink, frame: Frame, mut answers: Answers) {
    let mut meters = vec![Meter::new(frame.telemetry); answers.len()];
    while let Some(news) = answers.next().await {
        match news {
            Err(failure) => return sink.send(&failure.body(Dialect::OpenAi)).await,
            Ok((i, ChoiceEvent::Reading { done, cached, total })) => {
                if let Some((progress, timings)) = meters[i].read(done, cached, total) {
                    let mut piece = frame.piece((i, answers.slot(i)), "", &Vec::new());
                    (piece["prompt_progress"], piece["timings"]) = (progress, timings);
                    sink.send(&piece).await;
                }
            }
            Ok((_, ChoiceEvent::Call(_))) => {}
            Ok((i, ChoiceEvent::Text { text, tokens, .. })) => {
                let mut piece = frame.piece((i, answers.slot(i)), &text, &tokens);
                if let Some(timings) = meters[i].answered(tokens.len()) {
                    piece["timings"] = timings;
                }
                sink.send(&piece).await;
            }
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

/// `GET /props`, for the first loaded model, or one that sleeps.
pub(super) async fn props(call: Call) -> Result<Reply, Failure> {
    let (offer, profile) = call.models().first()?;
    Ok(Reply::Json(json!({
        "default_generation_settings": { "n_ctx": profile.context_length, "params": shown(&profile.sampler) },
        "total_slots": profile.parallel, "model_alias": offer.id, "model_path": profile.file_name,
        "model_ftype": profile.file_type, "modalities": { "vision": false, "audio": false },
        "chat_template": profile.template, "bos_token": profile.bos, "eos_token": profile.eos,
        "build_info": FINGERPRINT, "is_sleeping": offer.look(|_| ()).is_none(),
    })))
}

/// `GET /slots`, for the first loaded model, or one that sleeps.
pub(super) async fn slots(call: Call) -> Result<Reply, Failure> {
    let (offer, profile) = call.models().first()?;
    let active = offer.figures().active;
    let slot = |id: usize| {
        let active = active.iter().find(|active| active.slot == id);
        json!({
            "id": id, "n_ctx": profile.context_length, "is_processing": active.is_some(),
            "is_generating": active.is_some_and(|active| active.is_generating),
            "n_prompt_tokens": active.map_or(0, |active| active.prompt_tokens),
            "n_decoded": active.map_or(0, |active| active.answer_tokens),
            "cache_bytes": active.map_or(0, |active| active.cache_bytes),
        })
    };
    Ok(Reply::Json((0..profile.parallel).map(slot).collect()))
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
    let adapter = |(id, adapter): (usize, &Applied)| {
        let name = adapter.path.file_name().unwrap_or_default().to_string_lossy();
        json!({ "id": id, "path": name, "scale": adapter.scale })
    };
    let all = |model: &ServedModel| model.batcher().model().applied().iter().enumerate().map(adapter).collect();
    call.models().first().ok().and_then(|(offer, _)| offer.look(all)).unwrap_or_default()
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
    if !wanted.iter().all(|adapter| adapter["id"].is_u64() && adapter["scale"].is_number()) {
        return Err(Failure::invalid("each adapter must have an id and a scale, which are numbers"));
    }
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
