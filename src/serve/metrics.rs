//! `GET /metrics`: figures of all models together, in Prometheus' text form, with llama-server's names.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::time::Duration;

use super::call::Call;
use super::failure::Failure;
use super::reply::Reply;
use crate::engine::BatcherStatus;

pub(super) async fn metrics(call: Call) -> Result<Reply, Failure> {
    let models = call.models();
    let all: Vec<BatcherStatus> = models.offers().iter().map(|offer| offer.figures()).collect();
    let sum = all.iter().fold(BatcherStatus::default(), |sum, one| one.clone().after(&sum));
    let mut scraped = models.scraped.lock().unwrap_or_else(PoisonError::into_inner);
    let text = text(&all, &sum, &scraped);
    *scraped = sum;
    Ok(Reply::Figures(text, models.since))
}

/// The figures: `all` models, their `sum`, and that of the last time. Tokens a second are those since then, as in llama-server.
#[allow(clippy::cast_precision_loss, reason = "figures of Prometheus are doubles")]
fn text(all: &[BatcherStatus], sum: &BatcherStatus, scraped: &BatcherStatus) -> String {
    let total = |of: fn(&BatcherStatus) -> u64| of(sum) as f64;
    let over = |of: fn(&BatcherStatus) -> usize| all.iter().map(of).sum::<usize>() as f64;
    let time = |of: fn(&BatcherStatus) -> Duration| of(sum).as_secs_f64();
    let rate = |tokens: fn(&BatcherStatus) -> u64, time: fn(&BatcherStatus) -> Duration| {
        let seconds = time(sum).saturating_sub(time(scraped)).as_secs_f64();
        if seconds > 0.0 { tokens(sum).saturating_sub(tokens(scraped)) as f64 / seconds } else { 0.0 }
    };
    let (prompt_rate, answer_rate) =
        (rate(|s| s.prompt_tokens, |s| s.prompt_time), rate(|s| s.answer_tokens, |s| s.answer_time));
    let steps = total(|s| s.steps);
    let rows = [
        (
            "counter",
            "llamacpp:prompt_tokens_total",
            "Tokens of prompts that were evaluated.",
            total(|s| s.prompt_tokens),
        ),
        (
            "counter",
            "llamacpp:prompt_tokens_cached_total",
            "Tokens of prompts that were known.",
            total(|s| s.cached_tokens),
        ),
        ("counter", "llamacpp:prompt_seconds_total", "Time of steps that read prompts.", time(|s| s.prompt_time)),
        ("counter", "llamacpp:tokens_predicted_total", "Tokens of answers.", total(|s| s.answer_tokens)),
        (
            "counter",
            "llamacpp:tokens_predicted_seconds_total",
            "Time of steps that only generate.",
            time(|s| s.answer_time),
        ),
        ("counter", "llamacpp:n_decode_total", "Steps.", steps),
        ("counter", "llamacpp:n_tokens_max", "The most tokens of a request.", sum.most_tokens as f64),
        ("counter", "llamacpp:spec_decode_num_drafts_total", "Drafts.", total(|s| s.drafts)),
        (
            "counter",
            "llamacpp:spec_decode_num_draft_tokens_total",
            "Tokens that were drafted.",
            total(|s| s.drafted_tokens),
        ),
        (
            "counter",
            "llamacpp:spec_decode_num_accepted_tokens_total",
            "Drafted tokens that were accepted.",
            total(|s| s.accepted_tokens),
        ),
        ("gauge", "llamacpp:prompt_tokens_seconds", "Tokens of prompts a second since the last time.", prompt_rate),
        ("gauge", "llamacpp:predicted_tokens_seconds", "Tokens of answers a second since the last time.", answer_rate),
        ("gauge", "llamacpp:requests_processing", "Requests that are computed.", over(|s| s.active.len())),
        ("gauge", "llamacpp:requests_deferred", "Requests that wait.", over(|s| s.waiting)),
        ("gauge", "llamacpp:n_busy_slots_per_decode", "Requests a step.", total(|s| s.step_requests) / steps.max(1.0)),
        ("counter", "gguf:requests_total", "Requests that have ended.", total(|s| s.requests)),
        ("counter", "gguf:preempted_total", "Requests that had to make room for others.", total(|s| s.preempted)),
        ("gauge", "gguf:cache_bytes", "Bytes of all caches.", over(|s| s.cache_bytes)),
        (
            "gauge",
            "gguf:cache_reserved_bytes",
            "Bytes of all caches and of pages that are kept for later use.",
            over(|s| s.cache_reserved),
        ),
        ("gauge", "gguf:cache_budget_bytes", "Bytes that all caches may take.", over(|s| s.cache_budget)),
        ("gauge", "gguf:prefixes", "Prefixes that are held for later requests.", over(|s| s.prefixes)),
    ];
    let mut text = String::new();
    for (kind, name, help, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}
