//! llama-server's figures of an answer: tokens, times and speed, at its end and on the way.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::engine::Usage;

/// The figures of an answer.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn timings(usage: &Usage) -> Json {
    let read = usage.prompt_tokens - usage.cached_tokens;
    // The first token is computed with the prompt.
    let steps = usage.answer_tokens.saturating_sub(1);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (prompt, answer) = (ms(usage.prompt_time).max(1e-3), ms(usage.answer_time).max(1e-3));
    let mut json = json!({
        "cache_n": usage.cached_tokens,
        "prompt_n": read, "prompt_ms": prompt,
        "prompt_per_token_ms": prompt / read.max(1) as f64, "prompt_per_second": read as f64 / prompt * 1e3,
        "predicted_n": usage.answer_tokens, "predicted_ms": answer,
        "predicted_per_token_ms": if steps > 0 { answer / steps as f64 } else { 0.0 },
        "predicted_per_second": steps as f64 / answer * 1e3,
    });
    if usage.drafted_tokens > 0 {
        json["draft_n"] = usage.drafted_tokens.into();
        json["draft_n_accepted"] = usage.accepted_tokens.into();
    }
    json
}

/// What a stream tells besides its text (`return_progress`, `timings_per_token`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Telemetry {
    /// Whether the progress of the prompt is sent.
    pub(super) progress: bool,
    /// Whether each piece of text has the figures so far.
    pub(super) timings: bool,
}

/// Counts the tokens of a choice while they come, and measures their time. The answer's end has the engine's own figures.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    telemetry: Telemetry,
    usage: Usage,
    began: Option<Instant>,
    answering: Option<Instant>,
}

impl Meter {
    pub(super) fn new(telemetry: Telemetry) -> Self {
        Self { telemetry, usage: Usage::default(), began: None, answering: None }
    }

    /// Whether the request wants any of it.
    pub(super) fn is_asked_for(&self) -> bool {
        self.telemetry.progress || self.telemetry.timings
    }

    /// Notes progress of the prompt: tokens evaluated or cached, those cached, and all. Returns it with the figures so far, if that is
    /// wanted.
    pub(super) fn read(&mut self, done: usize, cached: usize, total: usize) -> Option<(Json, Json)> {
        let time = self.began.get_or_insert_with(Instant::now).elapsed();
        (self.usage.prompt_tokens, self.usage.cached_tokens, self.usage.prompt_time) = (done, cached, time);
        if !self.telemetry.progress {
            return None;
        }
        let mut timings = timings(&self.usage);
        if done == cached {
            timings["prompt_ms"] = 0.0.into();
        }
        timings["predicted_ms"] = 0.0.into();
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some((json!({ "total": total, "cache": cached, "processed": done, "time_ms": ms }), timings))
    }

    /// Notes tokens of the answer. Returns the figures so far, if they are wanted.
    pub(super) fn answered(&mut self, tokens: usize) -> Option<Json> {
        let now = Instant::now();
        self.usage.answer_tokens += tokens;
        self.usage.answer_time = now - *self.answering.get_or_insert(now);
        self.telemetry.timings.then(|| timings(&self.usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_on_the_way_never_go_back_and_are_finite() {
        let mut meter = Meter::new(Telemetry { progress: true, timings: true });
        let (progress, first) = meter.read(3, 3, 9).expect("wanted");
        assert_eq!((&progress["total"], &progress["cache"], &progress["processed"]), (&json!(9), &json!(3), &json!(3)));
        assert_eq!(
            (&first["prompt_n"], &first["prompt_ms"], &first["predicted_n"]),
            (&json!(0), &json!(0.0), &json!(0))
        );
        let (_, last) = meter.read(9, 3, 9).expect("wanted");
        assert!(last["prompt_n"] == 6 && last["prompt_ms"].as_f64() > Some(0.0), "{last}");
        let (one, three) = (meter.answered(1).expect("wanted"), meter.answered(2).expect("wanted"));
        assert_eq!((&one["predicted_n"], &three["predicted_n"], &three["prompt_n"]), (&json!(1), &json!(3), &json!(6)));
        assert!(three.as_object().expect("an object").values().all(|value| value.as_f64() >= Some(0.0)), "{three}");
        let mut quiet = Meter::new(Telemetry::default());
        assert!(quiet.read(1, 0, 2).is_none() && quiet.answered(1).is_none());
    }
}
