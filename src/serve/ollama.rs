//! Ollama's dialect: lists of models, answers as lines of JSON.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value as Json, json};

use super::answers::{Answers, ChoiceEnd, ChoiceEvent, Question, Tokens};
use super::blocking::blocking;
use super::call::Call;
use super::constraint;
use super::failure::{Dialect, Failure};
use super::fields::Fields;
use super::keep_alive::KeepAlive;
use super::models::ServedModel;
use super::offers::Offer;
use super::openai::logprob_list;
use super::prompt::{self, Prompt};
use super::reply::{Form, Reply, Sink};
use super::settings::Settings;
use super::tools;
use crate::engine::Tools;
use crate::engine::template::dates::strftime;
use crate::gguf::{Metadata, Value, keys};
use crate::modelfile::{modelfile_of, parameter_lines, parameter_size};
use crate::stores::{Digest, Located};
use crate::tokenizer::EncodeOptions;

/// The version of Ollama with these routes, which clients check.
const VERSION: &str = "0.32.0";
/// The expiry time of a model that always stays loaded.
const NEVER: &str = "2318-01-01T00:00:00Z";
/// Maximum elements of a metadata array in `show` without `verbose`.
const SHORT: usize = 5;

/// `GET /`.
pub(super) async fn root(_: Call) -> Result<Reply, Failure> {
    Ok(Reply::Text("text/plain; charset=utf-8", "Ollama is running".to_owned()))
}

/// `GET /api/version`.
pub(super) async fn version(_: Call) -> Result<Reply, Failure> {
    Ok(Reply::Json(json!({ "version": VERSION })))
}

/// `GET /api/tags`.
pub(super) async fn tags(call: Call) -> Result<Reply, Failure> {
    let model = |offer: &Arc<Offer>| {
        let mut json = summary(offer);
        json["modified_at"] = time(Duration::from_secs(offer.created)).into();
        json["capabilities"] = capabilities(offer);
        json
    };
    Ok(Reply::Json(json!({ "models": call.models().offers().iter().map(model).collect::<Vec<_>>() })))
}

/// `GET /api/ps`: the loaded models.
pub(super) async fn running(call: Call) -> Result<Reply, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let model = |offer: &Arc<Offer>| {
        let context_length = offer.model()?.batcher().context_length();
        let mut json = summary(offer);
        json["expires_at"] = offer.time_left().map_or_else(|| NEVER.into(), |left| time(now + left).into());
        json["size_vram"] = 0.into();
        json["context_length"] = context_length.into();
        Some(json)
    };
    Ok(Reply::Json(json!({ "models": call.models().offers().iter().filter_map(model).collect::<Vec<_>>() })))
}

fn summary(offer: &Offer) -> Json {
    let found = offer.source.as_ref().and_then(Located::digest);
    // Of other models, the digest is computed from the name, since hashing the file would take too long.
    let digest = found.unwrap_or_else(|| Digest::of(offer.id.as_bytes()));
    json!({
        "name": offer.id, "model": offer.id, "size": offer.facts.weight_bytes, "digest": digest.digits(),
        "details": details(offer),
    })
}

fn details(offer: &Offer) -> Json {
    let (size, family) = (parameter_size(offer.facts.parameters), &offer.facts.architecture);
    json!({
        "parent_model": "", "format": "gguf", "family": family, "families": [family], "parameter_size": size,
        "quantization_level": offer.facts.file_type,
    })
}

fn capabilities(offer: &Offer) -> Json {
    let abilities = offer.abilities();
    if abilities.only_embeds {
        return json!(["embedding"]);
    }
    let mut all = vec!["completion"];
    all.extend(abilities.thinks.then_some("thinking"));
    all.extend(abilities.calls_tools.then_some("tools"));
    all.into()
}

/// The offered model of a request; older clients use the field `name`.
fn offer(call: &Call, fields: Fields<'_>) -> Result<Arc<Offer>, Failure> {
    match fields.text("model")?.filter(|name| !name.is_empty()).or(fields.text("name")?) {
        Some(name) => call.models().offer(name),
        None => Err(Failure::field("model", "is required")),
    }
}

/// The model of a request.
pub(super) async fn wanted(call: &Call, fields: Fields<'_>) -> Result<Arc<ServedModel>, Failure> {
    call.models().get(&offer(call, fields)?, KeepAlive::of(fields)?).await
}

/// `POST /api/show`.
pub(super) async fn show(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let offer = offer(&call, fields)?;
    let verbose = fields.flag("verbose")?;
    let read = move |metadata: &Metadata| {
        let info: Map<String, Json> =
            metadata.iter().map(|(key, value)| (key.to_owned(), metadata_json(value, verbose))).collect();
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (info, text("general.license"), text(keys::TOKENIZER_CHAT_TEMPLATE))
    };
    let (info, license, template) = offer.metadata(read).await?;
    let template = offer.model().map_or(template, |model| model.prompter.template.source().to_owned());
    let source = offer.source.clone();
    let made = move || Ok(source.map(|located| made(&located)).unwrap_or_default());
    let mut shown = blocking(made).await?;
    let usual = json!({
        "license": license, "modelfile": "", "parameters": "", "template": template, "details": details(&offer),
        "model_info": info, "capabilities": capabilities(&offer),
        "modified_at": time(Duration::from_secs(offer.created)),
    });
    for (name, value) in usual.as_object().into_iter().flatten() {
        shown.entry(name.as_str()).or_insert_with(|| value.clone());
    }
    Ok(Reply::Json(Json::Object(shown)))
}

/// What a model was made with, as `show` tells it. Clients learn no paths.
fn made(located: &Located) -> Map<String, Json> {
    let mut shown = Map::new();
    let layers = &located.layers;
    shown.insert("modelfile".to_owned(), modelfile_of(located, false).into());
    if let Some(parameters) = &layers.parameters {
        shown.insert("parameters".to_owned(), parameter_lines(parameters).into());
    }
    let licenses = located.layer_texts("license");
    let texts = [("system", layers.system.clone()), ("template", layers.template.clone())];
    let license = (!licenses.is_empty()).then(|| licenses.join("\n\n"));
    let texts = texts.into_iter().chain([("license", license)]);
    shown.extend(texts.filter_map(|(name, text)| Some((name.to_owned(), Json::from(text?)))));
    if !layers.messages.is_empty() {
        let message = |(role, text): &(String, String)| json!({ "role": role, "content": text });
        shown.insert("messages".to_owned(), layers.messages.iter().map(message).collect());
    }
    shown
}

/// `POST /api/push`.
pub(super) async fn push(_: Call) -> Result<Reply, Failure> {
    Err(Failure::not_done("models are not sent to a registry"))
}

fn metadata_json(value: &Value, verbose: bool) -> Json {
    if let Some(array) = value.as_array() {
        let keep = verbose || array.len() <= SHORT;
        return array
            .iter()
            .take(if keep { usize::MAX } else { 0 })
            .map(|item| metadata_json(&item, verbose))
            .collect();
    }
    let number = || value.as_u64().map(Json::from).or_else(|| value.as_i64().map(Json::from));
    let text = value.as_str().map(Json::from).or_else(|| value.as_bool().map(Json::from));
    text.or_else(number).or_else(|| value.as_f64().map(Json::from)).unwrap_or_else(|| "".into())
}

/// Whether an answer is a chat message or a text.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Chat,
    Generate,
}

/// `POST /api/chat`.
pub(super) async fn chat(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    if let Some(reply) = emptied(&call, fields, Kind::Chat).await? {
        return Ok(reply);
    }
    let model = wanted(&call, fields).await?;
    refuse_unsupported(fields)?;
    let messages = fields.list("messages")?.cloned().unwrap_or_default();
    let is_shown = |message: &Json| message["images"].as_array().is_some_and(|images| !images.is_empty());
    if messages.iter().any(is_shown) {
        return Err(Failure::unsupported("images", "only text"));
    }
    if messages.is_empty() {
        return Ok(without_text(&model.id, Kind::Chat, "load"));
    }
    let tools = tools::read(fields)?;
    let prompt = prompt(&model, fields, messages, tools.as_deref()).await?;
    answer(&call, fields, model, prompt, Kind::Chat, tools).await
}

/// `POST /api/generate`.
pub(super) async fn generate(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    if let Some(reply) = emptied(&call, fields, Kind::Generate).await? {
        return Ok(reply);
    }
    let model = wanted(&call, fields).await?;
    refuse_unsupported(fields)?;
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(Failure::invalid(format!("{} does not support insert", model.id)));
    }
    if fields.text("template")?.is_some_and(|template| !template.is_empty()) {
        return Err(Failure::unsupported("template", "the model's own is used"));
    }
    let (text, system) = (fields.text("prompt")?.unwrap_or_default(), fields.text("system")?.unwrap_or_default());
    if text.is_empty() {
        return Ok(without_text(&model.id, Kind::Generate, "load"));
    }
    let mut prompt = if fields.flag("raw")? {
        if !system.is_empty() || fields.get("context").is_some() {
            return Err(Failure::invalid("raw mode does not support template, system, or context"));
        }
        let options = EncodeOptions { add_special: true, parse_special: true };
        let tokens = model.batcher().model().tokenizer().encode(text, options);
        let tokens = tokens.map_err(|error| Failure::field("prompt", error))?;
        Prompt { text: text.to_owned(), tokens, thinks: false }
    } else {
        let mut messages = vec![json!({ "role": "user", "content": text })];
        if !system.is_empty() {
            messages.insert(0, json!({ "role": "system", "content": system }));
        }
        // Tools are a chat's: a text is answered by text.
        prompt(&model, fields, messages, None).await?
    };
    // The `context` of an earlier answer.
    if let Some(context) = fields.list("context")? {
        let id = |id: &Json| id.as_u64().and_then(|id| u32::try_from(id).ok());
        let context: Option<Vec<u32>> = context.iter().map(id).collect();
        let mut tokens = context.ok_or_else(|| Failure::field("context", "must be an array of tokens"))?;
        let bos = model.batcher().model().tokenizer().vocab().special.bos;
        let repeated = usize::from(!tokens.is_empty() && bos.is_some() && prompt.tokens.first().copied() == bos);
        tokens.extend(&prompt.tokens[repeated..]);
        prompt.tokens = tokens;
    }
    answer(&call, fields, model, prompt, Kind::Generate, None).await
}

fn refuse_unsupported(fields: Fields<'_>) -> Result<(), Failure> {
    let is_empty = |value: &Json| match value {
        Json::Array(items) => items.is_empty(),
        Json::String(text) => text.is_empty(),
        _ => false,
    };
    for (name, what) in [("images", "only text")] {
        if fields.get(name).is_some_and(|value| !is_empty(value)) {
            return Err(Failure::unsupported(name, what));
        }
    }
    Ok(())
}

async fn prompt(
    model: &Arc<ServedModel>,
    fields: Fields<'_>,
    messages: Vec<Json>,
    tools: Option<&Tools>,
) -> Result<Prompt, Failure> {
    let mut variables = Map::new();
    let think = fields.get("think");
    if let Some(think) = think {
        let on = think.as_bool().or_else(|| think.as_str().map(|_| true));
        let on = on.ok_or_else(|| Failure::field("think", "must be true, false, or low, medium, high"))?;
        if on && model.prompter.thinking.is_none() {
            return Err(Failure::invalid(format!("\"{}\" does not support thinking", model.id)));
        }
        variables.insert("enable_thinking".to_owned(), on.into());
        variables.insert("thinking".to_owned(), on.into());
        if let Some(effort) = think.as_str() {
            variables.insert("reasoning_effort".to_owned(), effort.into());
        }
    }
    prompt::prompt(model, messages, tools, variables).await
}

/// The answer to a request without text that unloads a model (`keep_alive` 0).
async fn emptied(call: &Call, fields: Fields<'_>, kind: Kind) -> Result<Option<Reply>, Failure> {
    let is_empty = match kind {
        Kind::Chat => fields.list("messages")?.is_none_or(Vec::is_empty),
        Kind::Generate => fields.text("prompt")?.is_none_or(str::is_empty),
    };
    if !is_empty || KeepAlive::of(fields)? != Some(KeepAlive::For(Duration::ZERO)) {
        return Ok(None);
    }
    let offer = offer(call, fields)?;
    if offer.is_on_demand() {
        call.models().unload(&offer).await?;
    }
    Ok(Some(without_text(&offer.id, kind, "unload")))
}

/// The answer to an empty request, with which clients load and unload models.
fn without_text(id: &str, kind: Kind, reason: &str) -> Reply {
    let mut json = piece(id, kind, "", "");
    json["done"] = true.into();
    json["done_reason"] = reason.into();
    Reply::Json(json)
}

fn piece(id: &str, kind: Kind, text: &str, thinking: &str) -> Json {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut json = json!({ "model": id, "created_at": time(now) });
    let thinking = (!thinking.is_empty()).then_some(thinking);
    if kind == Kind::Chat {
        json["message"] = json!({ "role": "assistant", "content": text });
        if let Some(thinking) = thinking {
            json["message"]["thinking"] = thinking.into();
        }
    } else {
        json["response"] = text.into();
        if let Some(thinking) = thinking {
            json["thinking"] = thinking.into();
        }
    }
    json["done"] = false.into();
    json
}

/// Data for the last line of an answer.
struct Frame {
    model: Arc<ServedModel>,
    kind: Kind,
    /// Tokens of the prompt, if the answer includes its context.
    context: Option<Vec<u32>>,
    logprobs: bool,
    began: Instant,
}

impl Frame {
    fn piece(&self, text: &str, thinking: &str, tokens: &Tokens) -> Json {
        let mut json = piece(&self.model.id, self.kind, text, thinking);
        if self.logprobs {
            json["logprobs"] = logprob_list(self.model.batcher().model().tokenizer(), tokens).into();
        }
        json
    }

    /// Adds the fields of the end of an answer.
    fn end(&self, mut json: Json, ending: &ChoiceEnd, answer: &[u32]) -> Json {
        let usage = ending.usage;
        json["done"] = true.into();
        // Ollama has no reason of its own for calls.
        let reason = ending.finish_reason();
        json["done_reason"] = if reason == "tool_calls" { "stop" } else { reason }.into();
        if let Some(prompt) = &self.context {
            json["context"] = prompt.iter().chain(answer).copied().collect::<Vec<u32>>().into();
        }
        json["total_duration"] = nanoseconds(self.began.elapsed()).into();
        json["load_duration"] = 0.into();
        json["prompt_eval_count"] = usage.prompt_tokens.into();
        json["prompt_eval_duration"] = nanoseconds(usage.prompt_time).into();
        json["eval_count"] = usage.answer_tokens.into();
        json["eval_duration"] = nanoseconds(usage.answer_time).into();
        json
    }
}

async fn answer(
    call: &Call,
    fields: Fields<'_>,
    model: Arc<ServedModel>,
    prompt: Prompt,
    kind: Kind,
    tools: Option<Arc<Tools>>,
) -> Result<Reply, Failure> {
    let began = Instant::now();
    let none = Map::new();
    let options = fields.object("options")?.unwrap_or(Fields(&none));
    let mut settings = Settings::read(options, &model, call.salt, &["num_predict"])?;
    settings.wanted = constraint::format(fields)?;
    settings.tools = tools;
    let top = fields.count("top_logprobs", 0, 20)?;
    let logprobs = fields.flag("logprobs")?.then_some(top.unwrap_or(0));
    let stream = fields.flag_or("stream", true)?;
    let raw = fields.flag("raw")?;
    let context = (kind == Kind::Generate && !raw).then(|| prompt.tokens.clone());
    let thinking = (!raw).then_some(prompt.thinks);
    let question = Question { prompts: vec![prompt.tokens], choices: 1, thinking, logprobs, settings };
    let answers = Answers::ask(&model, question).await?;
    let frame = Frame { model, kind, context, logprobs: logprobs.is_some(), began };
    if stream {
        return Ok(Reply::stream(Form::Lines, |sink| stream_answer(sink, frame, answers)));
    }
    let Some(whole) = answers.whole().await?.pop() else { return Err(crate::engine::Error::Stopped.into()) };
    let tokens: Vec<u32> = whole.tokens.iter().map(|(token, _)| *token).collect();
    let mut json = frame.piece(&whole.text, whole.thinking.trim_end(), &whole.tokens);
    if !whole.calls.is_empty() {
        json["message"]["tool_calls"] = whole.calls.iter().map(tools::ollama).collect();
    }
    Ok(Reply::Json(frame.end(json, &whole.ending, &tokens)))
}

async fn stream_answer(sink: Sink, frame: Frame, mut answers: Answers) {
    let mut answer = Vec::new();
    while let Some(news) = answers.next().await {
        match news {
            Err(failure) => return sink.send(&failure.body(Dialect::Ollama)).await,
            Ok((_, ChoiceEvent::Reading { .. })) => {}
            Ok((_, ChoiceEvent::Text { thinking, text, tokens })) => {
                answer.extend(tokens.iter().map(|(token, _)| *token));
                sink.send(&frame.piece(&text, &thinking, &tokens)).await;
            }
            Ok((_, ChoiceEvent::Call(call))) => {
                let mut json = frame.piece("", "", &Tokens::new());
                json["message"]["tool_calls"] = json!([tools::ollama(&call)]);
                sink.send(&json).await;
            }
            Ok((_, ChoiceEvent::End(ending))) => {
                let last = piece(&frame.model.id, frame.kind, "", "");
                sink.send(&frame.end(last, &ending, &answer)).await;
            }
        }
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time since 1970 as RFC 3339 writes it, in UTC.
fn time(since: Duration) -> String {
    let seconds = strftime("%FT%H:%M:%S", i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    format!("{seconds}.{:09}Z", since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        let at = |seconds: u64, nanos: u32| time(Duration::new(seconds, nanos));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_399, 5), "2000-02-28T23:59:59.000000005Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_735_689_599, 0), "2024-12-31T23:59:59.000000000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
    }
}
