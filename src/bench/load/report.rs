//! Figures of a load, with the names of `vllm bench serve`.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::{Answered, LoadOptions};

/// The mean and the quantiles of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub median: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub most: f64,
}

impl Figures {
    /// The figures of times in milliseconds; zeros if there are none.
    #[allow(clippy::cast_precision_loss, reason = "counts of requests and tokens")]
    fn of(mut times: Vec<f64>) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        times.sort_unstable_by(f64::total_cmp);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let deviation = (times.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
        let most = times[times.len() - 1];
        Self { mean, median: quantile(&times, 0.5), deviation, p99: quantile(&times, 0.99), most }
    }
}

/// A quantile of sorted numbers, with linear interpolation.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "places in a list"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

/// The results of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadReport {
    /// The model that was asked.
    pub model: String,
    /// The load.
    pub options: LoadOptions,
    /// Time from the first request to the last answer.
    pub duration: Duration,
    /// Requests with a complete answer.
    pub completed: usize,
    /// Failed requests.
    pub failed: usize,
    /// The error of the first failed request.
    pub first_error: Option<String>,
    /// Tokens of prompts.
    pub input_tokens: usize,
    /// Tokens of answers.
    pub output_tokens: usize,
    /// Times to the first text (`ttft`).
    pub first: Figures,
    /// Times per token after the first (`tpot`).
    pub token: Figures,
    /// Times between two pieces of text (`itl`).
    pub gap: Figures,
    /// Times for whole answers (`e2el`).
    pub whole: Figures,
}

impl LoadReport {
    #[allow(clippy::cast_precision_loss, reason = "counts of tokens")]
    pub(super) fn new(model: String, options: LoadOptions, duration: Duration, all: &[Answered]) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let good = || all.iter().filter(|answered| answered.error.is_none());
        let tokens = good().filter(|answered| answered.answer_tokens > 1);
        let token = tokens.map(|a| ms(a.whole - a.first) / (a.answer_tokens - 1) as f64);
        Self {
            model,
            options,
            duration,
            completed: good().count(),
            failed: all.len() - good().count(),
            first_error: all.iter().find_map(|answered| answered.error.clone()),
            input_tokens: good().map(|answered| answered.prompt_tokens).sum(),
            output_tokens: good().map(|answered| answered.answer_tokens).sum(),
            first: Figures::of(good().map(|answered| ms(answered.first)).collect()),
            token: Figures::of(token.collect()),
            gap: Figures::of(good().flat_map(|answered| answered.gaps.iter().copied().map(ms)).collect()),
            whole: Figures::of(good().map(|answered| ms(answered.whole)).collect()),
        }
    }

    /// `count` per second of the duration.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of tokens")]
    pub fn rate(&self, count: usize) -> f64 {
        count as f64 / self.duration.as_secs_f64().max(1e-9)
    }

    /// The figures with their names and vLLM's.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, &'static str, Figures); 4] {
        [
            ("time to first token", "ttft", self.first),
            ("time per output token", "tpot", self.token),
            ("inter-token latency", "itl", self.gap),
            ("end-to-end latency", "e2el", self.whole),
        ]
    }

    /// The report as JSON, with vLLM's names.
    #[must_use]
    pub fn json(&self) -> Json {
        let mut map = Map::new();
        let mut add = |name: &str, value: Json| drop(map.insert(name.to_owned(), value));
        let rate = self.options.request_rate.map_or_else(|| json!("inf"), Json::from);
        add("schema_version", 1.into());
        add("backend", "openai".into());
        add("model_id", self.model.as_str().into());
        add("num_prompts", self.options.requests.into());
        add("request_rate", rate);
        add("max_concurrency", self.options.concurrency.into());
        add("duration", self.duration.as_secs_f64().into());
        add("completed", self.completed.into());
        add("failed", self.failed.into());
        add("total_input_tokens", self.input_tokens.into());
        add("total_output_tokens", self.output_tokens.into());
        add("request_throughput", self.rate(self.completed).into());
        add("output_throughput", self.rate(self.output_tokens).into());
        add("total_token_throughput", self.rate(self.input_tokens + self.output_tokens).into());
        for (_, name, figures) in self.figures() {
            let all = [
                ("mean", figures.mean),
                ("median", figures.median),
                ("std", figures.deviation),
                ("p99", figures.p99),
                ("max", figures.most),
            ];
            all.into_iter().for_each(|(kind, value)| add(&format!("{kind}_{name}_ms"), value.into()));
        }
        Json::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_numpy() {
        let figures = Figures::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((figures.mean, figures.median, figures.most), (2.5, 2.5, 4.0));
        assert!((figures.p99 - 3.97).abs() < 1e-12 && (figures.deviation - 1.25_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Figures::of(vec![7.0]).p99, 7.0);
        assert_eq!(Figures::of(Vec::new()), Figures::default());
    }

    #[test]
    fn failed_requests_count_apart() {
        let ms = Duration::from_millis;
        let good = Answered {
            prompt_tokens: 10,
            answer_tokens: 3,
            first: ms(100),
            whole: ms(300),
            gaps: vec![ms(80), ms(120)],
            ..Answered::default()
        };
        let bad = Answered { error: Some("gone".to_owned()), ..Answered::default() };
        let report = LoadReport::new("m".to_owned(), LoadOptions::default(), Duration::from_secs(2), &[bad, good]);
        let json = report.json();
        for (name, value) in [
            ("completed", 1.0),
            ("failed", 1.0),
            ("output_throughput", 1.5),
            ("total_token_throughput", 6.5),
            ("mean_ttft_ms", 100.0),
            ("mean_tpot_ms", 100.0),
            ("median_itl_ms", 100.0),
            ("max_itl_ms", 120.0),
            ("p99_e2el_ms", 300.0),
        ] {
            assert!((json[name].as_f64().expect("a number") - value).abs() < 1e-9, "{name}: {json}");
        }
        assert_eq!(report.first_error.as_deref(), Some("gone"));
    }
}
