//! OpenAI's text completions: prompts are continued without a chat template.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::answers::{Answers, ChoiceEnd, CompleteChoice, Question, Tokens};
use super::blocking::blocking;
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::models::ServedModel;
use super::openai::{Head, LIMITS, Wants, stream};
use super::reply::{Form, Reply, Sink};
use super::settings::{MOST_CHOICES, Settings};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Maximum prompts of one request.
const MOST_PROMPTS: usize = 256;
/// OpenAI's default length of a completion.
const USUAL_TOKENS: usize = 16;

/// The prompts of a request; control tokens that they spell out are recognized.
pub(super) async fn prompts(model: &Arc<ServedModel>, fields: Fields<'_>) -> Result<Vec<Vec<u32>>, Failure> {
    let prompt = fields.get("prompt").ok_or_else(|| Failure::field("prompt", "is needed"))?.clone();
    let model = model.clone();
    let field = PromptField { name: "prompt", most: MOST_PROMPTS, parse_special: true };
    blocking(move || field.read(model.batcher().model().tokenizer(), &prompt)).await
}

/// A token of the vocabulary, by its id.
pub(super) fn known_token(tokenizer: &Tokenizer, id: &Json) -> Option<u32> {
    let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
    id.filter(|id| (*id as usize) < tokenizer.vocab_size())
}

/// A field with prompts or other texts: a text, tokens, a mixture of both, or an array of these. BOS and EOS are added as the model
/// requires.
#[derive(Clone, Copy)]
pub(super) struct PromptField {
    pub(super) name: &'static str,
    /// Maximum number of prompts.
    pub(super) most: usize,
    /// Whether control tokens that texts spell out are recognized.
    pub(super) parse_special: bool,
}

impl PromptField {
    /// The tokens of each.
    pub(super) fn read(self, tokenizer: &Tokenizer, value: &Json) -> Result<Vec<Vec<u32>>, Failure> {
        let items = match value {
            Json::Array(items) => items,
            Json::String(_) | Json::Object(_) => {
                return Ok(vec![self.read_one(tokenizer, std::slice::from_ref(value))?]);
            }
            _ => return Err(Failure::field(self.name, "must be a string or an array")),
        };
        if items.len() > self.most && items.iter().any(|item| !item.is_number()) {
            return Err(Failure::field(self.name, format!("must not have more than {} items", self.most)));
        }
        // An array with numbers is one prompt; without numbers, each item is a prompt.
        if items.is_empty() || items.iter().any(Json::is_number) {
            return Ok(vec![self.read_one(tokenizer, items)?]);
        }
        let one = |item: &Json| match item {
            Json::Array(items) => self.read_one(tokenizer, items),
            _ => self.read_one(tokenizer, std::slice::from_ref(item)),
        };
        items.iter().map(one).collect()
    }

    fn read_one(self, tokenizer: &Tokenizer, pieces: &[Json]) -> Result<Vec<u32>, Failure> {
        let mut tokens = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            // llama-server's form of a prompt with images, without any.
            let of_object = piece.get("prompt_string").filter(|_| piece.get("multimodal_data").is_none());
            if let Json::String(text) = of_object.unwrap_or(piece) {
                let options = EncodeOptions { add_special: i == 0, parse_special: self.parse_special };
                tokens.extend(tokenizer.encode(text, options).map_err(|error| Failure::field(self.name, error))?);
            } else {
                let token = known_token(tokenizer, piece);
                tokens.push(token.ok_or_else(|| {
                    Failure::field(self.name, "contains what is neither a text nor a token of the model")
                })?);
            }
        }
        if tokens.is_empty() {
            return Err(Failure::field(self.name, "must not be empty"));
        }
        Ok(tokens)
    }
}

/// `POST /v1/completions`.
pub(super) async fn completions(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let choices = fields.count("n", 1, MOST_CHOICES)?.unwrap_or(1);
    if fields.count("best_of", 1, MOST_CHOICES)?.is_some_and(|best_of| best_of != choices) {
        return Err(Failure::unsupported("best_of", "all choices are given"));
    }
    if fields.text("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(Failure::unsupported("suffix", "texts are gone on with, not filled in"));
    }
    let logprobs = match fields.get("logprobs") {
        // llama-server also accepts the form of chat requests.
        Some(Json::Bool(on)) => on.then_some(0),
        _ => fields.count("logprobs", 0, 20)?,
    };
    let echo = fields.flag("echo")?;
    if echo && logprobs.is_some() {
        return Err(Failure::unsupported("echo", "with logprobs"));
    }
    let streamed = fields.flag("stream")?;
    let wants = Wants::read(fields, logprobs)?;
    let mut settings = Settings::read(fields, &model, call.salt, LIMITS)?;
    if LIMITS.iter().all(|name| fields.get(name).is_none()) {
        settings.max_tokens = Some(USUAL_TOKENS);
    }
    let prompts = prompts(&model, fields).await?;
    let tokenizer = model.batcher().model().tokenizer();
    // One for each prompt; choices of the same prompt are adjacent.
    let echoes: Vec<String> =
        prompts.iter().map(|prompt| if echo { tokenizer.decode(prompt, false) } else { String::new() }).collect();
    let answers = Answers::ask(&model, Question { prompts, choices, thinking: None, logprobs, settings }).await?;
    let head = Head::new("cmpl", "text_completion", &model);
    if streamed {
        return Ok(Reply::stream(Form::Events, move |sink| {
            stream_texts(sink, head, model, answers, (choices, echoes), wants)
        }));
    }
    let whole = answers.whole().await?;
    let choice = |i: usize, whole: &CompleteChoice| {
        let text = format!("{}{}", echoes[i / choices], whole.text);
        let logprobs = logprobs.map(|_| text_logprobs(tokenizer, &whole.tokens));
        json!({ "text": text, "index": i, "logprobs": logprobs, "finish_reason": whole.ending.finish_reason() })
    };
    Ok(head.whole(&whole, choices, choice))
}

async fn stream_texts(
    sink: Sink,
    head: Head,
    model: Arc<ServedModel>,
    answers: Answers,
    (choices, echoes): (usize, Vec<String>),
    wants: Wants,
) {
    let tokenizer = model.batcher().model().tokenizer();
    let choice = |i: usize, text: &str, tokens: &Tokens, finish_reason: Option<&str>| {
        let logprobs = wants.logprobs.then(|| text_logprobs(tokenizer, tokens));
        json!({ "text": text, "index": i, "logprobs": logprobs, "finish_reason": finish_reason })
    };
    for i in (0..answers.len()).filter(|i| !echoes[i / choices].is_empty()) {
        sink.send(&head.with(&[choice(i, &echoes[i / choices], &Vec::new(), None)])).await;
    }
    let chunk = |i: usize, _: String, text: String, tokens: Tokens| choice(i, &text, &tokens, None);
    let end = |i: usize, ending: &ChoiceEnd| choice(i, "", &Vec::new(), Some(ending.finish_reason()));
    stream(&sink, &head, answers, choices, wants, chunk, end).await;
}

/// OpenAI's old form of probabilities: parallel lists.
fn text_logprobs(tokenizer: &Tokenizer, tokens: &Tokens) -> Json {
    let name = |token: u32| String::from_utf8_lossy(tokenizer.piece(token)).into_owned();
    let (mut names, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut offset = 0;
    for (token, known) in tokens {
        let Some(known) = known else { continue };
        let text = name(*token);
        offsets.push(offset);
        offset += text.chars().count();
        names.push(text);
        logprobs.push(known.taken.max(-9999.0));
        let top = known.top.iter().map(|&(token, logprob)| (name(token), Json::from(logprob.max(-9999.0))));
        tops.push(Json::Object(top.collect()));
    }
    json!({ "tokens": names, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets })
}
