//! OpenAI's decisions: questions about an input, answered by the probabilities of a model's next token.
//!
//! Every question becomes a prompt of its own, the input followed by the question and its lettered options, so that the input
//! is computed once and all questions share the steps. An option's probability is that of the tokens that spell its letter,
//! divided by the sum over all options. Models that are not trained for it are not calibrated.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::answers::{Answers, CompleteChoice, Question};
use super::blocking::blocking;
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::models::ServedModel;
use super::prompt;
use super::reply::Reply;
use super::response_items::messages;
use super::settings::Settings;
use crate::tokenizer::Tokenizer;

/// Maximum questions of a request, and options of a question.
const MOST_QUESTIONS: usize = 400;
const MOST_OPTIONS: usize = 255;
/// An option that is not among so many of the likeliest tokens has the probability 0.
const LIKELIEST: usize = 4096;
/// Where all options together are less likely than this, the model has said something else: a refusal.
const LEAST_SHARE: f64 = 0.01;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Predicate,
    Choice,
    Score,
}

/// A question with its options.
#[derive(Debug)]
struct Asked {
    kind: Kind,
    name: Option<String>,
    instructions: String,
    /// The options' values or labels, and their descriptions; yes and no for a predicate.
    options: Vec<(Json, Option<String>)>,
}

/// `POST /v1/decisions`.
pub(super) async fn decisions(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let fields = Fields(&body);
    let model = call.models().wanted(fields).await?;
    let input = messages(fields.get("input").ok_or_else(|| Failure::field("input", "is needed"))?)?;
    let list = fields.list("questions")?.filter(|list| (1..=MOST_QUESTIONS).contains(&list.len()));
    let list = list
        .ok_or_else(|| Failure::field("questions", format!("must be an array of 1 to {MOST_QUESTIONS} questions")))?;
    let asked = list.iter().enumerate().map(|(i, question)| read(i, question)).collect::<Result<Vec<Asked>, _>>()?;
    let labels = labels(&model, &asked).await?;
    let variables = Map::from_iter([("enable_thinking".to_owned(), Json::Bool(false))]);
    let mut prompts = Vec::with_capacity(asked.len());
    for question in &asked {
        let messages = with_question(input.clone(), &question.text(&labels));
        prompts.push(prompt::prompt(&model, messages, None, variables.clone()).await?.tokens);
    }
    let mut settings = Settings::read(Fields(&greedy()), &model, call.salt, &["max_tokens"])?;
    settings.ignore_end = true;
    let question = Question { prompts, choices: 1, thinking: None, logprobs: Some(LIKELIEST), settings };
    let whole = Answers::ask(&model, question).await?.whole().await?;
    let answers: Vec<Json> = asked.iter().zip(&whole).map(|(asked, whole)| asked.answer(whole, &labels)).collect();
    let sum = |of: fn(&CompleteChoice) -> usize| whole.iter().map(of).sum::<usize>();
    let (read, cached) = (sum(|whole| whole.ending.usage.prompt_tokens), sum(|whole| whole.ending.usage.cached_tokens));
    let written = sum(|whole| whole.ending.usage.answer_tokens);
    Ok(Reply::Json(json!({
        "model": model.id, "answers": answers,
        "usage": {
            "input_tokens": read, "input_tokens_details": { "cached_tokens": cached, "cache_write_tokens": read - cached },
            "output_tokens": written, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": read + written,
        },
    })))
}

/// The settings of an answer of one token.
fn greedy() -> Map<String, Json> {
    Map::from_iter([("temperature".to_owned(), json!(0)), ("max_tokens".to_owned(), json!(1))])
}

fn read(i: usize, question: &Json) -> Result<Asked, Failure> {
    let place = |field: &str| format!("questions[{i}]{field}");
    let Json::Object(map) = question else { return Err(Failure::field(&place(""), "must be an object")) };
    let (kind, list) = match map.get("type").and_then(Json::as_str) {
        Some("predicate") => (Kind::Predicate, None),
        Some("choice") => (Kind::Choice, Some("choices")),
        Some("score") => (Kind::Score, Some("levels")),
        _ => return Err(Failure::field(&place(".type"), "must be predicate, choice or score")),
    };
    let instructions = text(map.get("instructions")).filter(|text| !text.trim().is_empty());
    let instructions =
        instructions.ok_or_else(|| Failure::field(&place(".instructions"), "must be a text or parts of text"))?;
    let name = map.get("name").and_then(Json::as_str).map(str::to_owned);
    let Some(list) = list else {
        let options = ["Yes", "No"].map(|value| (Json::from(value), None)).to_vec();
        return Ok(Asked { kind, name, instructions, options });
    };
    let wrong =
        || Failure::field(&place(&format!(".{list}")), format!("must be 2 to {MOST_OPTIONS} different options"));
    let items = map.get(list).and_then(Json::as_array).ok_or_else(wrong)?;
    let option = |item: &Json| {
        let value = if kind == Kind::Choice { &item["value"] } else { &item["label"] };
        let known = value.is_string() || kind == Kind::Choice && value.is_boolean();
        known.then(|| (value.clone(), item["description"].as_str().map(str::to_owned)))
    };
    let options: Vec<_> = items.iter().map(option).collect::<Option<_>>().ok_or_else(wrong)?;
    let repeated = (1..options.len()).any(|i| options[..i].iter().any(|(value, _)| *value == options[i].0));
    if !(2..=MOST_OPTIONS).contains(&options.len()) || repeated {
        return Err(wrong());
    }
    Ok(Asked { kind, name, instructions, options })
}

/// A text, or the texts of parts.
fn text(value: Option<&Json>) -> Option<String> {
    match value? {
        Json::String(text) => Some(text.clone()),
        Json::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
            Some(texts?.join("\n"))
        }
        _ => None,
    }
}

/// The input with a question at its end, in the last message if that is the user's.
fn with_question(mut messages: Vec<Json>, question: &str) -> Vec<Json> {
    match messages.last_mut() {
        Some(last) if last["role"] == "user" => {
            let input = last["content"].as_str().unwrap_or_default();
            last["content"] = format!("{input}\n\n{question}").into();
        }
        _ => messages.push(json!({ "role": "user", "content": question })),
    }
    messages
}

/// The letters of options, and which option a token stands for.
struct Labels {
    letters: Vec<String>,
    /// The tokens of each letter, and of yes (0) and no (1).
    options: HashMap<u32, usize>,
    yes_no: HashMap<u32, usize>,
}

/// Finds letters that are single tokens of the model, as many as the largest question has options.
async fn labels(model: &Arc<ServedModel>, asked: &[Asked]) -> Result<Labels, Failure> {
    let lettered = asked.iter().filter(|asked| asked.kind != Kind::Predicate);
    let count = lettered.map(|asked| asked.options.len()).max().unwrap_or(0);
    let model = model.clone();
    blocking(move || Labels::find(model.batcher().model().tokenizer(), count)).await
}

impl Labels {
    fn find(tokenizer: &Tokenizer, count: usize) -> Result<Self, Failure> {
        let size = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
        let mut tokens: HashMap<String, Vec<u32>> = HashMap::new();
        let mut yes_no = HashMap::new();
        for id in 0..size {
            let Ok(text) = std::str::from_utf8(tokenizer.piece(id)) else { continue };
            let text = text.trim_start();
            if let Some(answer) = ["yes", "no"].iter().position(|answer| text.eq_ignore_ascii_case(answer)) {
                yes_no.insert(id, answer);
            }
            if (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
                tokens.entry(text.to_owned()).or_default().push(id);
            }
        }
        // A to Z, then AA to ZZ, as far as the model has them.
        let alphabet = || (b'A'..=b'Z').map(char::from);
        let ones = alphabet().map(String::from);
        let all = ones.chain(alphabet().flat_map(|a| alphabet().map(move |b| String::from_iter([a, b]))));
        let letters: Vec<String> = all.filter(|letter| tokens.contains_key(letter)).take(count).collect();
        if letters.len() < count {
            let message = format!("the model has letters for {} options, a question has {count}", letters.len());
            return Err(Failure::not_done(message));
        }
        let options = letters.iter().enumerate().flat_map(|(i, letter)| tokens[letter].iter().map(move |&id| (id, i)));
        let options = options.collect();
        Ok(Self { letters, options, yes_no })
    }
}

impl Asked {
    /// The question as the model reads it.
    fn text(&self, labels: &Labels) -> String {
        if self.kind == Kind::Predicate {
            return format!("{}\n\nIs this true? Answer with Yes or No alone.", self.instructions);
        }
        let mut text = format!("{}\n\nAnswer with the letter of one option alone.\n", self.instructions);
        for ((value, description), letter) in self.options.iter().zip(&labels.letters) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing to a string cannot fail.
            let _ = write!(text, "{letter}. {value}");
            if let Some(description) = description {
                let _ = write!(text, ": {description}");
            }
            text.push('\n');
        }
        text
    }

    /// The probability of each option; `None` where the model says something else.
    fn probabilities(&self, whole: &CompleteChoice, labels: &Labels) -> Option<Vec<f64>> {
        let known = if self.kind == Kind::Predicate { &labels.yes_no } else { &labels.options };
        let mut shares = vec![0.0; self.options.len()];
        let (_, logprobs) = whole.tokens.first()?;
        for (token, logprob) in &logprobs.as_ref()?.top {
            if let Some(share) = known.get(token).and_then(|&option| shares.get_mut(option)) {
                *share += f64::from(*logprob).exp();
            }
        }
        let sum: f64 = shares.iter().sum();
        (sum >= LEAST_SHARE).then(|| shares.iter().map(|share| share / sum).collect())
    }

    fn answer(&self, whole: &CompleteChoice, labels: &Labels) -> Json {
        let Some(shares) = self.probabilities(whole, labels) else {
            return json!({ "type": "refusal", "name": self.name });
        };
        let best = (1..shares.len()).fold(0, |best, i| if shares[i] > shares[best] { i } else { best });
        let each = self.options.iter().zip(&shares);
        match self.kind {
            Kind::Predicate => json!({ "type": "predicate", "name": self.name, "probability": shares[0] }),
            Kind::Choice => json!({
                "type": "choice", "name": self.name, "choice": self.options[best].0, "confidence": shares[best],
                "probabilities":
                    each.map(|((value, _), share)| json!({ "value": value, "probability": share })).collect::<Json>(),
            }),
            Kind::Score => {
                let levels = (0u32..).zip(&shares);
                let score: f64 = levels.map(|(level, share)| f64::from(level) * share).sum();
                let level = |(i, ((label, _), share)): (usize, (&(Json, _), &f64))| json!({ "label": label, "value": i, "probability": share });
                json!({
                    "type": "score", "name": self.name, "score": score, "confidence": shares[best],
                    "probabilities": each.enumerate().map(level).collect::<Json>(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_checked() {
        let fails = |question: Json| read(2, &question).expect_err("wrong").message;
        assert_eq!(fails(json!("x")), "questions[2] must be an object");
        assert_eq!(fails(json!({ "type": "x" })), "questions[2].type must be predicate, choice or score");
        assert!(fails(json!({ "type": "predicate", "instructions": " " })).starts_with("questions[2].instructions"));
        for choices in [json!([]), json!([{ "value": "a" }]), json!([{ "value": 1 }, { "value": "a" }]), json!(3)] {
            let message = fails(json!({ "type": "choice", "instructions": "i", "choices": choices }));
            assert_eq!(message, "questions[2].choices must be 2 to 255 different options");
        }
        let twice = json!([{ "value": "true" }, { "value": "true" }]);
        assert!(read(0, &json!({ "type": "choice", "instructions": "i", "choices": twice })).is_err());
        let typed = json!([{ "value": "true" }, { "value": true, "description": "d" }]);
        let asked = read(0, &json!({ "type": "choice", "instructions": [{ "text": "i" }], "choices": typed }));
        let asked = asked.expect("different values");
        assert_eq!(asked.options, [(json!("true"), None), (json!(true), Some("d".to_owned()))]);
        let labels = Labels { letters: vec!["A".into(), "B".into()], options: HashMap::new(), yes_no: HashMap::new() };
        assert_eq!(asked.text(&labels), "i\n\nAnswer with the letter of one option alone.\nA. true\nB. true: d\n");
    }

    #[test]
    fn questions_end_the_input() {
        let message = |role: &str, text: &str| json!({ "role": role, "content": text });
        assert_eq!(with_question(vec![message("user", "a")], "q"), [message("user", "a\n\nq")]);
        let answered = [message("user", "a"), message("assistant", "b")];
        assert_eq!(with_question(answered.to_vec(), "q").last(), Some(&message("user", "q")));
    }
}
