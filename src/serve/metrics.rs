//! `GET /metrics`: figures of all models together, in Prometheus' text form, with llama-server's names.

use std::fmt::Write as _;
use std::time::Duration;

use super::call::Call;
use super::failure::Failure;
use super::reply::Reply;
use crate::engine::BatcherStatus;

pub(super) async fn metrics(call: Call) -> Result<Reply, Failure> {
    let all: Vec<BatcherStatus> = call.models().loaded().iter().map(|model| model.batcher().status()).collect();
    Ok(Reply::Figures(text(&all), call.models().since))
}

#[allow(clippy::cast_precision_loss, reason = "figures of Prometheus are doubles")]
fn text(all: &[BatcherStatus]) -> String {
    let sum = |of: fn(&BatcherStatus) -> u64| all.iter().map(of).sum::<u64>() as f64;
    let time = |of: fn(&BatcherStatus) -> Duration| all.iter().map(of).sum::<Duration>().as_secs_f64();
    let rate = |tokens: f64, seconds: f64| if seconds > 0.0 { tokens / seconds } else { 0.0 };
    let (prompt, prompt_time) = (sum(|s| s.prompt_tokens), time(|s| s.prompt_time));
    let (answer, answer_time) = (sum(|s| s.answer_tokens), time(|s| s.answer_time));
    let steps = sum(|s| s.steps);
    let most = all.iter().map(|s| s.most_tokens).max().unwrap_or(0) as f64;
    let rows = [
        ("counter", "llamacpp:prompt_tokens_total", "Tokens of prompts that were evaluated.", prompt),
        (
            "counter",
            "llamacpp:prompt_tokens_cached_total",
            "Tokens of prompts that were known.",
            sum(|s| s.cached_tokens),
        ),
        ("counter", "llamacpp:prompt_seconds_total", "Time of steps that read prompts.", prompt_time),
        ("counter", "llamacpp:tokens_predicted_total", "Tokens of answers.", answer),
        ("counter", "llamacpp:tokens_predicted_seconds_total", "Time of steps that only generate.", answer_time),
        ("counter", "llamacpp:n_decode_total", "Steps.", steps),
        ("counter", "llamacpp:n_tokens_max", "The most tokens of a request.", most),
        ("gauge", "llamacpp:prompt_tokens_seconds", "Tokens of prompts a second.", rate(prompt, prompt_time)),
        ("gauge", "llamacpp:predicted_tokens_seconds", "Tokens of answers a second.", rate(answer, answer_time)),
        ("gauge", "llamacpp:requests_processing", "Requests that are computed.", sum(|s| s.active.len() as u64)),
        ("gauge", "llamacpp:requests_deferred", "Requests that wait.", sum(|s| s.waiting as u64)),
        ("gauge", "llamacpp:n_busy_slots_per_decode", "Requests a step.", sum(|s| s.step_requests) / steps.max(1.0)),
        ("counter", "gguf:draft_tokens_total", "Tokens that were drafted.", sum(|s| s.drafted_tokens)),
        (
            "counter",
            "gguf:draft_tokens_accepted_total",
            "Drafted tokens that were accepted.",
            sum(|s| s.accepted_tokens),
        ),
        ("counter", "gguf:requests_total", "Requests that have ended.", sum(|s| s.requests)),
        ("counter", "gguf:preempted_total", "Requests that had to make room for others.", sum(|s| s.preempted)),
        ("gauge", "gguf:cache_bytes", "Bytes of all caches.", sum(|s| s.cache_bytes as u64)),
        ("gauge", "gguf:cache_budget_bytes", "Bytes that all caches may take.", sum(|s| s.cache_budget as u64)),
        ("gauge", "gguf:prefixes", "Prefixes that are held for later requests.", sum(|s| s.prefixes as u64)),
    ];
    let mut text = String::new();
    for (kind, name, help, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}
