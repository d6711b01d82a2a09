//! Load on a server: many streams of completions at once, and their latencies. Works with any server that has OpenAI's
//! `/v1/completions`; the figures and their names are those of `vllm bench serve`.

mod http;
mod report;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

pub use http::{Error, Server};
pub use report::{Figures, LoadReport};

use super::synthetic::mixed;

/// Settings of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// The model's name; the server's first model when `None`.
    pub model: Option<String>,
    /// Maximum concurrent requests.
    pub concurrency: usize,
    /// Number of requests.
    pub requests: usize,
    /// Words of each prompt, which are nearly as many tokens. The server counts the tokens.
    pub prompt_words: usize,
    /// Tokens of each answer.
    pub max_tokens: usize,
    /// Requests started per second, at random times; all at once when `None`.
    pub request_rate: Option<f64>,
    /// Seed of prompts and times.
    pub seed: u64,
    /// Words that all prompts begin with.
    pub shared_words: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            model: None,
            concurrency: 16,
            requests: 64,
            prompt_words: 128,
            max_tokens: 64,
            request_rate: None,
            seed: 0,
            shared_words: 0,
        }
    }
}

/// The result of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// The error, if it failed.
    pub error: Option<String>,
    /// Tokens of its prompt and of its answer, as the server counts them.
    pub prompt_tokens: usize,
    /// Tokens of its answer.
    pub answer_tokens: usize,
    /// Time until the first text.
    pub first: Duration,
    /// Time until the last.
    pub whole: Duration,
    /// Times between one piece of text and the next.
    pub gaps: Vec<Duration>,
}

/// Runs a load on a server. `show` is called for each finished request, and stops the rest by returning false.
///
/// # Errors
/// When the server does not answer, or offers no model.
pub fn load(
    server: &Server,
    options: &LoadOptions,
    show: &(dyn Fn(usize) -> bool + Sync),
) -> Result<LoadReport, Error> {
    let model = match &options.model {
        Some(model) => model.clone(),
        None => first_model(server)?,
    };
    // The first request may include loading the model.
    let mut first = Answered::default();
    let warm = LoadOptions { max_tokens: 1, ..options.clone() };
    ask(server, &body(&model, &warm, usize::MAX), &mut first)?;
    let starts = starts(options);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let all: Mutex<Vec<Answered>> = Mutex::default();
    let began = Instant::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(start) = starts.get(i) else { return };
            std::thread::sleep(start.saturating_sub(began.elapsed()));
            let mut answered = Answered::default();
            if let Err(error) = ask(server, &body(&model, options, i), &mut answered) {
                answered.error = Some(error.to_string());
            }
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(answered);
            if !show(all.len()) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.concurrency.min(options.requests).max(1) {
            scope.spawn(work);
        }
    });
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(LoadReport::new(model, options.clone(), began.elapsed(), &all))
}

fn first_model(server: &Server) -> Result<String, Error> {
    let models = server.get("/v1/models")?;
    models["data"][0]["id"].as_str().map(str::to_owned).ok_or(Error::NoModel)
}

/// Start times of requests, with exponentially distributed gaps.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
fn starts(options: &LoadOptions) -> Vec<Duration> {
    let Some(rate) = options.request_rate else { return vec![Duration::ZERO; options.requests] };
    let mut at = 0.0;
    let start = |i: usize| {
        let unit = (mixed(options.seed ^ (1 << 40) ^ i as u64) >> 11) as f64 / (1u64 << 53) as f64;
        let now = Duration::from_secs_f64(at);
        at += -(1.0 - unit).ln() / rate;
        now
    };
    (0..options.requests).map(start).collect()
}

/// Short words, which are one token each in nearly every vocabulary.
const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "is", "was", "for", "on", "that", "with", "as", "it", "by", "at", "from", "his",
    "her", "they", "this", "have", "not", "are", "but", "had", "all", "one", "be", "who", "an", "there", "we", "more",
    "when", "out", "up", "so", "said", "what", "no", "if", "time", "two", "like", "now", "day", "man", "house",
    "water", "white", "long", "great", "back", "year", "work", "three", "good", "new", "first", "made", "after",
    "well", "way", "down",
];

/// The body of request `i`. Prompts differ from the first word on, so that no server can use a cache.
fn body(model: &str, options: &LoadOptions, i: usize) -> Json {
    let word = |of: u64, n: usize| WORDS[(mixed(options.seed ^ of << 20 ^ n as u64) % 64) as usize];
    let shared = (0..options.shared_words).map(|n| word(0, n));
    let own = (0..options.prompt_words).map(|n| word(1 + (i as u64 & 0xf_ffff), n));
    let prompt = shared.chain(own).collect::<Vec<_>>().join(" ");
    json!({
        "model": model, "prompt": prompt, "max_tokens": options.max_tokens, "temperature": 0, "ignore_eos": true,
        "stream": true, "stream_options": { "include_usage": true },
    })
}

/// Runs one request.
fn ask(server: &Server, body: &Json, answered: &mut Answered) -> Result<(), Error> {
    let began = Instant::now();
    let mut last: Option<Instant> = None;
    let mut failed = None;
    server.stream("/v1/completions", body, &mut |event| {
        let now = Instant::now();
        if let Some(error) = event.get("error") {
            failed = Some(error["message"].as_str().unwrap_or("an error").to_owned());
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            let count = |name: &str| usage[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            (answered.prompt_tokens, answered.answer_tokens) = (count("prompt_tokens"), count("completion_tokens"));
        }
        let has_text = event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty());
        if !has_text {
            return;
        }
        match last {
            None => answered.first = now - began,
            Some(last) => answered.gaps.push(now - last),
        }
        last = Some(now);
        answered.whole = now - began;
    })?;
    match failed {
        Some(message) => Err(Error::InStream(message)),
        None if last.is_none() => Err(Error::Nothing),
        None => Ok(()),
    }
}
