//! `gguf perplexity`: how well models predict a text.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gguf::gguf::{Reader, Value, keys};
use gguf::model::{Loading, Model};
use gguf::perplexity::{Options, Outcome, perplexity};
use serde_json::json;

use crate::model_args::{self, RunArgs, short_name};
use crate::progress;
use crate::table::{Column, Table};
use crate::units;

/// Measures the perplexity of models on a text, as llama-perplexity does: lower is better.
///
/// Several models give one table, each compared with the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf perplexity                                   # the embedded model on its held-out text
  gguf perplexity f16.gguf q4_k_m.gguf -f wiki.test.raw
  gguf perplexity *.gguf -f text.txt --chunks 20 --json")]
pub(crate) struct Args {
    /// Files, folders or names (default: the embedded model)
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Text to measure on, - for standard input (default: the embedded text)
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens of a chunk
    #[arg(long, short, alias = "ctx-size", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Most chunks (0 or -1: all)
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    chunks: i64,
    /// Tokens of a forward pass
    #[arg(long, short, value_name = "N", default_value_t = 2048)]
    batch: usize,
    #[command(flatten)]
    run: RunArgs,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// A model that has been measured.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) bits_per_weight: f64,
    /// Whether its text is cut into the same tokens as that of the first model: figures of others cannot be compared.
    pub(crate) comparable: bool,
    pub(crate) outcome: Outcome,
}

/// The text that is measured on when none is given.
#[cfg(feature = "embedded")]
pub(crate) fn default_text() -> anyhow::Result<String> {
    Ok(gguf::embedded::held_out_text().to_owned())
}

/// There is none in this build.
#[cfg(not(feature = "embedded"))]
pub(crate) fn default_text() -> anyhow::Result<String> {
    anyhow::bail!("no text given (-f FILE)")
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match &args.file {
        Some(path) => model_args::read_text(path)?,
        None => {
            eprintln!("measuring on the embedded text (-f FILE takes another, -f - standard input)");
            default_text()?
        }
    };
    let chunks = usize::try_from(args.chunks).ok().filter(|&chunks| chunks > 0);
    let options = Options { context: args.context, batch: args.batch, chunks, kv_type: args.run.kv_type };
    let pool = args.run.pool()?;
    let models: Vec<Option<&PathBuf>> =
        if args.models.is_empty() { vec![None] } else { args.models.iter().map(Some).collect() };
    let mut measured = Vec::new();
    let mut first_tokens: Option<Value> = None;
    for path in models {
        let reader = path.map_or_else(model_args::embedded, |path| model_args::open(path))?;
        let tokens = reader.metadata().get(keys::TOKENIZER_TOKENS);
        let comparable = first_tokens.as_ref().is_none_or(|first| Some(first) == tokens);
        if first_tokens.is_none() {
            first_tokens = tokens.cloned();
        }
        let one = measure(&reader, &short_name(path), &pool, args.run.load, &text, &options)?;
        measured.push(Measured { comparable, ..one });
    }
    if args.json {
        let all: Vec<_> = measured.iter().map(as_json).collect();
        model_args::print(&format!("{:#}\n", serde_json::Value::from(all)))?;
    } else {
        table(&measured)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures one model, with a progress bar.
pub(crate) fn measure(
    reader: &Reader,
    name: &str,
    pool: &gguf::kernels::Pool,
    loading: Loading,
    text: &str,
    options: &Options,
) -> anyhow::Result<Measured> {
    let model = Model::from_reader_with(reader, loading)?;
    let trained = model.hparams().context_length;
    if options.context > trained {
        eprintln!("warning: {name}: a context of {}, the model was trained on {trained}", options.context);
    }
    let bar = progress::steps(0, name);
    let mut last_said = Instant::now();
    let outcome = perplexity(&model, pool, text, options, &mut |progress| {
        // Where nobody sees the bar (a pipe, a log), a line each minute says that the work goes on.
        if bar.is_hidden() && last_said.elapsed() > Duration::from_secs(60) {
            eprintln!("{name}: chunk {} of {}, perplexity {:.4}", progress.done, progress.total, progress.perplexity);
            last_said = Instant::now();
        }
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{:.4}", progress.perplexity));
        true
    });
    bar.finish_and_clear();
    let outcome = outcome.map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let outcome = outcome.ok_or_else(|| anyhow::anyhow!("{name}: stopped"))?;
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    let bits_per_weight = model.weight_bytes() as f64 * 8.0 / model.parameters() as f64;
    Ok(Measured { name: name.to_owned(), bytes: reader.file_bytes(), bits_per_weight, comparable: true, outcome })
}

#[allow(clippy::cast_precision_loss, reason = "rates for people")]
pub(crate) fn tokens_per_second(outcome: &Outcome) -> f64 {
    outcome.tokens as f64 / outcome.time.as_secs_f64()
}

fn as_json(measured: &Measured) -> serde_json::Value {
    let o = &measured.outcome;
    json!({
        "model": measured.name,
        "perplexity": o.perplexity,
        "stderr": o.stderr,
        "tokens": o.tokens,
        "chunks": o.chunks,
        "context": o.context,
        "seconds": o.time.as_secs_f64(),
        "tokens_per_second": tokens_per_second(o),
    })
}

/// One line a model: size, perplexity, difference from the first, speed.
pub(crate) fn table(measured: &[Measured]) -> anyhow::Result<()> {
    let mut table = Table::new([
        Column::names("model"),
        Column::right("size").optional(2),
        Column::right("bits/weight").optional(4),
        Column::right("perplexity"),
        Column::right("± error").optional(1),
        Column::right("change"),
        Column::right("tokens/s").optional(3),
    ]);
    let first = measured.first().map_or(1.0, |m| m.outcome.perplexity);
    for (i, m) in measured.iter().enumerate() {
        let o = &m.outcome;
        let change = match i {
            0 => "-".into(),
            _ if !m.comparable => "other tokens".into(),
            _ => format!("{:+.2} %", (o.perplexity / first - 1.0) * 100.0),
        };
        table.row([
            m.name.clone(),
            units::bytes(m.bytes),
            format!("{:.2}", m.bits_per_weight),
            format!("{:.4}", o.perplexity),
            format!("{:.4}", o.stderr),
            change,
            format!("{:.0}", tokens_per_second(o)),
        ]);
    }
    table.write(&mut std::io::stdout().lock())?;
    if measured.iter().any(|m| !m.comparable) {
        eprintln!("perplexities over other tokens cannot be compared with that of the first model");
    }
    Ok(())
}
