//! What has been measured, as a table, as JSON and as CSV.

use std::fmt::Write as _;

use gguf_toolkit::compare::{Estimate, Measured, Outcome, Quantiles, Verdict, efficient};
use serde_json::{Value as Json, json};

use crate::model_args::print;
use crate::table::{Column, Table};
use crate::units;

/// Version of the object of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// What is known of a model besides its figures.
pub(super) struct Entry {
    pub(super) name: String,
    /// The name of its mix, where its file says one.
    pub(super) file_type: Option<String>,
    pub(super) bytes: u64,
    pub(super) bits_per_weight: f64,
    /// Weights and the cache of a chunk.
    pub(super) memory_bytes: u64,
    /// Tokens a second, one by one.
    pub(super) answer_rate: f64,
}

/// All that there is to report.
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) text: String,
    pub(super) base: Entry,
    /// One for each model of the outcome.
    pub(super) entries: Vec<Entry>,
    /// Whether no other model is at most as large and loses less.
    pub(super) efficient: Vec<bool>,
}

impl Report {
    /// `entries` are those of the outcome's models.
    pub(super) fn new(outcome: Outcome, text: String, base: Entry, entries: Vec<Entry>) -> Self {
        let figures: Vec<(u64, f64)> =
            entries.iter().zip(&outcome.models).map(|(e, m)| (e.bytes, m.statistics.kl.value)).collect();
        Self { text, base, entries, efficient: efficient(&figures), outcome }
    }

    /// Models with what is known of them.
    pub(super) fn models(&self) -> impl Iterator<Item = (&Entry, &Measured, bool)> {
        let models = self.entries.iter().zip(&self.outcome.models).zip(&self.efficient);
        models.map(|((entry, measured), &efficient)| (entry, measured, efficient))
    }

    /// The perplexity of the base.
    pub(super) fn base_perplexity(&self) -> Estimate {
        self.outcome.models.first().map(|model| model.statistics.base_perplexity).unwrap_or_default()
    }

    /// Writes a line for each model, and what follows from them.
    pub(super) fn table(&self) -> anyhow::Result<()> {
        let mut table = Table::new([
            Column::names("model"),
            Column::right("size").optional(2),
            Column::right("bits/weight").optional(8),
            Column::right("perplexity"),
            Column::right("± error").optional(9),
            Column::right("change").optional(5),
            Column::right("mean KL"),
            Column::right("± error").optional(10),
            Column::right("median KL").optional(14),
            Column::right("99% KL").optional(6),
            Column::right("99.9% KL").optional(15),
            Column::right("max KL").optional(11),
            Column::right("Δp mean").optional(16),
            Column::right("Δp RMS").optional(7),
            Column::right("same top").optional(3),
            Column::right("prompt t/s").optional(12),
            Column::right("answer t/s").optional(13),
            Column::right("memory").optional(17),
            Column::left("verdict").optional(1),
        ]);
        let dash = || "-".to_owned();
        let base = self.base_perplexity();
        table.row([
            self.base.name.clone(),
            units::bytes(self.base.bytes),
            format!("{:.2}", self.base.bits_per_weight),
            format!("{:.4}", base.value),
            format!("{:.4}", base.error),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            dash(),
            rate(self.outcome.base_prompt.rate()),
            rate(self.base.answer_rate),
            units::bytes(self.base.memory_bytes),
            "the base".into(),
        ]);
        for (entry, measured, _) in self.models() {
            let s = &measured.statistics;
            table.row([
                entry.name.clone(),
                units::bytes(entry.bytes),
                format!("{:.2}", entry.bits_per_weight),
                format!("{:.4}", s.perplexity.value),
                format!("{:.4}", s.perplexity.error),
                format!("{:+.2} %", (s.ratio.value - 1.0) * 100.0),
                format!("{:.5}", s.kl.value),
                format!("{:.5}", s.kl.error),
                format!("{:.5}", s.kl_quantiles.at(0.5)),
                format!("{:.4}", s.kl_quantiles.at(0.99)),
                format!("{:.3}", s.kl_quantiles.at(0.999)),
                format!("{:.3}", s.kl_quantiles.at(1.0)),
                format!("{:+.3} %", s.p_change.value * 100.0),
                format!("{:.2} %", s.p_rms.value * 100.0),
                format!("{:.2} %", s.same_top.value * 100.0),
                rate(measured.prompt.rate()),
                rate(entry.answer_rate),
                units::bytes(entry.memory_bytes),
                verdict(measured).to_owned(),
            ]);
        }
        table.write(&mut std::io::stdout().lock())?;
        let advice = self.advice();
        if advice.is_empty() { Ok(()) } else { print(&format!("\n{}\n", advice.join("\n"))) }
    }

    /// What follows from the figures, in sentences.
    pub(super) fn advice(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (verdict, what) in [
            (Verdict::Invisible, "Smallest without visible loss"),
            (Verdict::Small, "Smallest with a small loss"),
            (Verdict::Clear, "Smallest with a clear loss"),
        ] {
            let of = self.models().filter(|(_, measured, _)| Verdict::of(&measured.statistics) == Some(verdict));
            if let Some((entry, measured, _)) = of.min_by_key(|(entry, ..)| entry.bytes) {
                let s = &measured.statistics;
                lines.push(format!(
                    "{what}: {} ({}, {:.2} bits a weight; {:.1} times in 100 the base's likeliest token, perplexity {:+.2} %)",
                    entry.name,
                    units::bytes(entry.bytes),
                    entry.bits_per_weight,
                    s.same_top.value * 100.0,
                    (s.ratio.value - 1.0) * 100.0
                ));
            }
        }
        let beaten: Vec<&str> =
            self.models().filter(|(.., efficient)| !efficient).map(|(entry, ..)| entry.name.as_str()).collect();
        if !beaten.is_empty() {
            lines.push(format!("Not worth their size, another is no larger and loses less: {}", beaten.join(", ")));
        }
        if self.outcome.base.len() < 100 {
            lines.push(format!("{} positions are too few for a verdict", self.outcome.base.len()));
        }
        lines
    }

    /// The object of `--json`.
    pub(super) fn json(&self) -> Json {
        let outcome = &self.outcome;
        let base = self.base_perplexity();
        let models = self.models().map(|(entry, measured, efficient)| {
            let s = &measured.statistics;
            json!({
                "model": entry.name,
                "file_type": entry.file_type,
                "file_bytes": entry.bytes,
                "bits_per_weight": entry.bits_per_weight,
                "memory_bytes": entry.memory_bytes,
                "perplexity": estimate(s.perplexity),
                "perplexity_ratio": estimate(s.ratio),
                "perplexity_difference": estimate(s.difference),
                "ln_perplexity_ratio": estimate(s.ln_ratio),
                "ln_perplexity_correlation": s.correlation,
                "kl_divergence": spread(s.kl, &s.kl_quantiles),
                "probability_change": spread(s.p_change, &s.p_quantiles),
                "probability_change_rms": estimate(s.p_rms),
                "same_top": estimate(s.same_top),
                "prompt_tokens_per_second": known(measured.prompt.rate()),
                "answer_tokens_per_second": known(entry.answer_rate),
                "efficient": efficient,
                "verdict": Verdict::of(s).map(Verdict::kind),
            })
        });
        json!({
            "schema_version": SCHEMA_VERSION,
            "text": self.text,
            "context": outcome.context,
            "chunks": outcome.tokens.len() / outcome.context,
            "positions": outcome.base.len(),
            "base": {
                "model": self.base.name,
                "file_type": self.base.file_type,
                "file_bytes": self.base.bytes,
                "bits_per_weight": self.base.bits_per_weight,
                "memory_bytes": self.base.memory_bytes,
                "perplexity": estimate(base),
                "prompt_tokens_per_second": known(outcome.base_prompt.rate()),
                "answer_tokens_per_second": known(self.base.answer_rate),
            },
            "models": models.collect::<Vec<_>>(),
        })
    }

    /// A line for each model, the base first.
    pub(super) fn csv(&self) -> String {
        let mut text = String::from(
            "model,file_type,file_bytes,bits_per_weight,memory_bytes,perplexity,perplexity_error,ln_ratio,ln_ratio_error,\
             kl_mean,kl_error,kl_median,kl_99,kl_99_9,kl_max,p_change_mean,p_change_rms,same_top,same_top_error,\
             prompt_tokens_per_second,answer_tokens_per_second,efficient,verdict\n",
        );
        let head = |entry: &Entry| {
            let file_type = entry.file_type.clone().unwrap_or_default();
            let (bytes, bits, memory) = (entry.bytes, entry.bits_per_weight, entry.memory_bytes);
            format!("{},{},{bytes},{bits},{memory}", quoted(&entry.name), quoted(&file_type))
        };
        let base = self.base_perplexity();
        let rate = |rate: f64| known(rate).map_or_else(String::new, |rate| rate.to_string());
        let (prompt, answer) = (rate(self.outcome.base_prompt.rate()), rate(self.base.answer_rate));
        let none = ",".repeat(12);
        let _ = writeln!(text, "{},{},{}{none},{prompt},{answer},,base", head(&self.base), base.value, base.error);
        for (entry, measured, efficient) in self.models() {
            let s = &measured.statistics;
            let figures = [
                s.perplexity.value,
                s.perplexity.error,
                s.ln_ratio.value,
                s.ln_ratio.error,
                s.kl.value,
                s.kl.error,
                s.kl_quantiles.at(0.5),
                s.kl_quantiles.at(0.99),
                s.kl_quantiles.at(0.999),
                s.kl_quantiles.at(1.0),
                s.p_change.value,
                s.p_rms.value,
                s.same_top.value,
                s.same_top.error,
            ];
            let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
            let verdict = Verdict::of(s).map_or("", Verdict::kind);
            let (prompt, answer) = (rate(measured.prompt.rate()), rate(entry.answer_rate));
            let _ = writeln!(text, "{},{},{prompt},{answer},{efficient},{verdict}", head(entry), figures.join(","));
        }
        text
    }
}

/// A speed that was measured.
fn known(rate: f64) -> Option<f64> {
    (rate > 0.0).then_some(rate)
}

/// A speed in whole tokens a second, where it was measured.
pub(super) fn rate(rate: f64) -> String {
    known(rate).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"))
}

/// The verdict in words.
pub(super) fn verdict(measured: &Measured) -> &'static str {
    Verdict::of(&measured.statistics).map_or("too few positions", Verdict::describe)
}

fn estimate(estimate: Estimate) -> Json {
    json!({ "value": estimate.value, "error": estimate.error })
}

fn spread(mean: Estimate, quantiles: &Quantiles) -> Json {
    let at = |share: f64| quantiles.at(share);
    json!({
        "mean": mean.value,
        "error": mean.error,
        "min": at(0.0),
        "p0_1": at(0.001),
        "p1": at(0.01),
        "p5": at(0.05),
        "p10": at(0.1),
        "p25": at(0.25),
        "median": at(0.5),
        "p75": at(0.75),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "max": at(1.0),
    })
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn fields_with_commas_are_quoted() {
        assert_eq!([quoted("a"), quoted("a,b"), quoted("a\"b")], ["a", "\"a,b\"", "\"a\"\"b\""]);
    }
}
