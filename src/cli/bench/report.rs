//! What `gguf bench` prints.

use std::fmt::Write as _;

use gguf_toolkit::bench::{Kind, Measured, Report};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Loading;
use serde_json::{Value, json};

use super::{Loaded, test_name};
use crate::model_args::RunArgs;
use crate::units;

/// A report with what it is about.
pub(super) struct Shown<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) report: &'a Report,
    pub(super) pool: &'a Pool,
    pub(super) run: &'a RunArgs,
}

impl Shown<'_> {
    /// A table of the tests, and lines about the rest.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::new();
        let rows: Vec<[String; 5]> = self.report.tests.iter().map(row).collect();
        let header = ["test", "tokens/s", "limit", "of limit", "waiting"].map(str::to_owned);
        let width = |i: usize| rows.iter().chain([&header]).map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut line = |cells: &[String; 5]| {
            let cells = cells.iter().zip(widths).enumerate();
            let padded = cells.map(|(i, (cell, w))| if i == 0 { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
            let _ = writeln!(out, "| {} |", padded.collect::<Vec<_>>().join(" | "));
        };
        line(&header);
        let rule = |(i, w): (usize, usize)| if i == 0 { "-".repeat(w) } else { format!("{}:", "-".repeat(w - 1)) };
        line(&widths.into_iter().enumerate().map(rule).collect::<Vec<_>>().try_into().unwrap_or_default());
        rows.iter().for_each(line);
        out.push('\n');
        for (what, value) in self.facts() {
            let _ = writeln!(out, "- {what}: {value}");
        }
        out
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let (loaded, report) = (self.loaded, self.report);
        let milliseconds = |d: std::time::Duration| format!("{:.0} ms", d.as_secs_f64() * 1e3);
        let limits = report.limits;
        let mut facts = vec![
            (
                "model",
                format!(
                    "{}, {} parameters, {}",
                    loaded.name,
                    units::count(loaded.model.parameters()),
                    units::bytes(loaded.model.weight_bytes())
                ),
            ),
            ("machine", format!("{} threads, {}", self.pool.threads(), self.pool.isa())),
            (
                "limits",
                format!(
                    "{:.0} G products of bytes/s, {:.0} G of bf16/s, {:.0} G of floats/s, {:.1} GB/s read",
                    limits.byte_products / 1e9,
                    limits.bf16_products / 1e9,
                    limits.float_products / 1e9,
                    limits.bytes_read / 1e9
                ),
            ),
            ("load", format!("{} ({})", milliseconds(loaded.load_time), self.loading())),
            (
                "first token",
                format!(
                    "{} after opening the file, prompt of 16",
                    milliseconds(loaded.load_time + report.first_prompt)
                ),
            ),
        ];
        if let Some(memory) = report.memory {
            let beside = memory.resident.saturating_sub(loaded.file_bytes + report.cache_bytes as u64);
            facts.push((
                "memory",
                format!(
                    "{} resident: {} file, {} cache, {} beside them",
                    units::bytes(memory.resident),
                    units::bytes(loaded.file_bytes),
                    units::bytes(report.cache_bytes as u64),
                    units::bytes(beside)
                ),
            ));
        }
        facts
    }

    fn loading(&self) -> &'static str {
        if self.run.load == Loading::Copy { "load" } else { "mmap" }
    }

    pub(super) fn json(&self) -> Value {
        let (loaded, report) = (self.loaded, self.report);
        let limits = report.limits;
        json!({
            "model": loaded.name,
            "parameters": loaded.model.parameters(),
            "file_bytes": loaded.file_bytes,
            "weight_bytes": loaded.model.weight_bytes(),
            "threads": self.pool.threads(),
            "cpu": self.pool.isa().name(),
            "loading": self.loading(),
            "limits": {
                "byte_products_per_second": limits.byte_products,
                "bf16_products_per_second": limits.bf16_products,
                "float_products_per_second": limits.float_products,
                "bytes_read_per_second": limits.bytes_read,
            },
            "load_seconds": loaded.load_time.as_secs_f64(),
            "first_token_seconds": (loaded.load_time + report.first_prompt).as_secs_f64(),
            "resident_bytes": report.memory.map(|memory| memory.resident),
            "cache_bytes": report.cache_bytes,
            "tests": report.tests.iter().map(test_json).collect::<Vec<_>>(),
        })
    }
}

fn row(measured: &Measured) -> [String; 5] {
    let limit = measured.mean() / measured.share_of_limit();
    [
        test_name(measured.test),
        format!("{:.2} ± {:.2}", measured.mean(), measured.deviation()),
        format!("{limit:.1}"),
        format!("{:.0} %", measured.share_of_limit() * 100.0),
        format!("{:.1} %", measured.waiting * 100.0),
    ]
}

fn test_json(measured: &Measured) -> Value {
    json!({
        "test": test_name(measured.test),
        "kind": if measured.test.kind == Kind::Prompt { "prompt" } else { "generation" },
        "tokens": measured.test.tokens,
        "depth": measured.test.depth,
        "tokens_per_second": measured.mean(),
        "deviation": measured.deviation(),
        "share_of_limit": measured.share_of_limit(),
        "waiting": measured.waiting,
        "seconds": measured.seconds,
    })
}
