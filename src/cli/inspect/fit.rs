//! `gguf inspect --fit`: whether a model fits into this machine's memory, and how fast it would run.

use std::io::Write;

use anyhow::Context as _;
use gguf_toolkit::cpu::KvType;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::inspect::{Fit, Machine, Needs, Verdict};
use gguf_toolkit::kernels::{Isa, Pool};
use gguf_toolkit::memory;
use gguf_toolkit::printable::printable_path;
use serde_json::{Value as Json, json};

use crate::table::{Column, Table};
use crate::{model_args, units};

/// Contexts that are shown where none are asked for, as far as the model was trained on them.
const USUAL_CONTEXTS: [usize; 2] = [4096, 32768];
/// Tokens of the prompt whose speed is told.
const PROMPT: usize = 512;

/// What is to be shown of a model.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Numbers of tokens; none: the usual ones, and the model's own.
    pub(super) contexts: Vec<usize>,
    pub(super) kv_types: Vec<KvType>,
}

/// One line of the answer.
struct Row {
    context: usize,
    kv_type: KvType,
    needs: Needs,
    verdict: Option<Verdict>,
    prompt: f64,
    answer: f64,
}

/// The answer for one model.
struct Answer {
    fit: Fit,
    machine: Machine,
    rows: Vec<Row>,
}

impl Question {
    fn ask(&self, reader: &Reader) -> anyhow::Result<Answer> {
        let fit = Fit::of(reader).with_context(|| printable_path(reader.path()).to_string())?;
        let machine = Machine::measure(&fit, &Pool::with_isa(model_args::default_threads(), Isa::selected()?));
        let mut rows = Vec::new();
        for context in self.contexts(&fit) {
            for &kv_type in &self.kv_types {
                let needs = fit.needs(context, kv_type, machine.threads);
                rows.push(Row {
                    context,
                    kv_type,
                    needs,
                    verdict: machine.available.map(|available| needs.verdict(available)),
                    prompt: machine.prompt_speed(&fit, context),
                    answer: machine.answer_speed(&fit, context, kv_type),
                });
            }
        }
        Ok(Answer { fit, machine, rows })
    }

    fn contexts(&self, fit: &Fit) -> Vec<usize> {
        if !self.contexts.is_empty() {
            return self.contexts.clone();
        }
        let own = fit.context_length();
        USUAL_CONTEXTS.into_iter().filter(|&context| context < own).chain([own]).collect()
    }
}

/// Writes what a model would need and how fast it would be, a line for each context and type of the cache.
pub(super) fn write(out: &mut impl Write, reader: &Reader, question: &Question) -> anyhow::Result<()> {
    let Answer { fit, machine, rows } = question.ask(reader)?;
    let memory = machine.available.map_or_else(|| "not known".to_owned(), units::bytes);
    writeln!(out, "{}", printable_path(reader.path()))?;
    writeln!(out, "  memory        {memory} available, read at {:.1} GB/s", machine.bytes_read / 1e9)?;
    let answer = machine.answer_speed(&fit, 0, KvType::F16);
    let (prompt, answer) = (rate(machine.prompt_speed(&fit, PROMPT)), rate(answer));
    let threads = if machine.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", machine.threads) };
    writeln!(out, "  speed         {prompt} tokens/s of a prompt of {PROMPT}, {answer} of an answer, {threads}\n")?;
    let mut table = Table::new([
        Column::right("context"),
        Column::left("cache type"),
        Column::right("weights").optional(2),
        Column::right("cache"),
        Column::right("buffers").optional(3),
        Column::right("total"),
        Column::left("verdict"),
        Column::right("prompt/s").optional(1),
        Column::right("answer/s").optional(1),
    ]);
    for row in &rows {
        table.row([
            row.context.to_string(),
            row.kv_type.to_string(),
            units::bytes(row.needs.weights),
            units::bytes(row.needs.cache),
            units::bytes(row.needs.buffers + row.needs.program),
            units::bytes(row.needs.total()),
            row.verdict.map_or("not known", Verdict::name).to_owned(),
            rate(row.prompt),
            rate(row.answer),
        ]);
    }
    table.write(out)?;
    let own = fit.context_length();
    if rows.iter().any(|row| row.context > own) {
        writeln!(out, "\nThe model was trained on {own} tokens.")?;
    }
    Ok(())
}

/// The line of the first screen: what the model takes with a usual context, and whether that fits. Nothing is measured.
pub(super) fn line(reader: &Reader) -> Option<String> {
    let fit = Fit::of(reader).ok()?;
    let context = fit.context_length().min(USUAL_CONTEXTS[0]);
    let needs = fit.needs(context, KvType::F16, model_args::default_threads());
    let here = match memory::available() {
        None => String::new(),
        Some(available) => format!(": {} in {}", needs.verdict(available).name(), units::bytes(available)),
    };
    let (total, cache) = (units::bytes(needs.total()), units::bytes(needs.cache));
    Some(format!("{total} with {context} tokens (cache {cache}){here}"))
}

/// The object of one model.
pub(super) fn json(reader: &Reader, question: &Question) -> anyhow::Result<Json> {
    let Answer { fit, machine, rows } = question.ask(reader)?;
    let row = |row: &Row| {
        json!({
            "context": row.context,
            "kv_type": row.kv_type.to_string(),
            "weight_bytes": row.needs.weights,
            "cache_bytes": row.needs.cache,
            "buffer_bytes": row.needs.buffers,
            "program_bytes": row.needs.program,
            "total_bytes": row.needs.total(),
            "verdict": row.verdict.map(Verdict::name),
            "prompt_tokens_per_second": finite(row.prompt),
            "answer_tokens_per_second": finite(row.answer),
        })
    };
    Ok(json!({
        "available_bytes": machine.available,
        "threads": machine.threads,
        "bytes_read_per_second": finite(machine.bytes_read),
        "prompt_tokens_per_second": finite(machine.prompt_speed(&fit, PROMPT)),
        "answer_tokens_per_second": finite(machine.answer_speed(&fit, 0, KvType::F16)),
        "contexts": rows.iter().map(row).collect::<Vec<_>>(),
    }))
}

/// Three digits of a rate.
fn rate(rate: f64) -> String {
    match rate {
        rate if !rate.is_finite() => "-".into(),
        rate if rate < 9.995 => format!("{rate:.2}"),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

fn finite(number: f64) -> Json {
    if number.is_finite() { number.into() } else { Json::Null }
}
