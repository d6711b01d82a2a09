//! `gguf perplexity`: how well models predict a text.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gguf_toolkit::gguf::{Reader, Value, keys};
use gguf_toolkit::perplexity::{Options, Outcome, TokenScore, perplexity};
use gguf_toolkit::tokenizer::Tokenizer;
use serde_json::json;

use crate::model_args::{self, RunArgs, short_name};
use crate::progress;
use crate::table::{Column, Table};
use crate::{outputs, units};

/// Measures the perplexity of models on a text, as llama-perplexity does: lower is better.
///
/// Several models give one table, each compared with the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf perplexity                                   # the embedded model on its held-out text
  gguf perplexity f16.gguf q4_k_m.gguf -f wiki.test.raw
  gguf perplexity *.gguf -f text.txt --chunks 20 --json
  gguf perplexity f16.gguf -f text.txt -c 256 --stride 64      # every token with many before it
  gguf perplexity f16.gguf -f text.txt --per-token tokens.tsv  # which tokens are unexpected")]
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
    /// Most chunks (default: all)
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_chunks)]
    chunks: Option<Chunks>,
    /// Tokens of a forward pass
    #[arg(long, short, value_name = "N", default_value_t = 2048)]
    batch: usize,
    /// Let chunks begin N tokens after each other, and score the last N tokens of each alone: more work, a fairer figure
    #[arg(long, alias = "ppl-stride", value_name = "N")]
    stride: Option<usize>,
    /// Write a line for each scored token: place in the text, number, negative log-likelihood, text (tab-separated)
    #[arg(long, value_name = "FILE")]
    per_token: Option<PathBuf>,
    /// Replace an existing file of --per-token
    #[arg(long, requires = "per_token")]
    force: bool,
    #[command(flatten)]
    run: RunArgs,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// Most chunks; none for all.
type Chunks = Option<usize>;

/// A count of chunks, or -1 for all, as llama-perplexity has it.
fn parse_chunks(text: &str) -> Result<Chunks, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(chunks @ 1..) => usize::try_from(chunks).map(Some).map_err(|error| error.to_string()),
        _ => Err("at least 1, or -1 for all".into()),
    }
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
    Ok(gguf_toolkit::embedded::held_out_text().to_owned())
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
    if let Some(path) = &args.per_token {
        anyhow::ensure!(args.models.len() < 2, "--per-token is for one model");
        outputs::check(path, 1, args.force)?;
    }
    let options = Options {
        context: args.context,
        batch: args.batch,
        chunks: args.chunks.flatten(),
        kv_type: args.run.kv_type,
        stride: args.stride,
    };
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
        let mut scores = Vec::new();
        let keep = |new: &[TokenScore]| {
            if args.per_token.is_some() {
                scores.extend_from_slice(new);
            }
        };
        let one = measure_tokens(&reader, &short_name(path), &pool, &args.run, (&text, &options), keep)?;
        if let Some(path) = &args.per_token {
            write_tokens(path, args.force, &Tokenizer::from_gguf(&reader)?, &scores)?;
        }
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
    pool: &gguf_toolkit::kernels::Pool,
    run: &RunArgs,
    text: &str,
    options: &Options,
) -> anyhow::Result<Measured> {
    measure_tokens(reader, name, pool, run, (text, options), |_| ())
}

/// As [`measure`], and tells `each` of the tokens that every forward pass has scored.
fn measure_tokens(
    reader: &Reader,
    name: &str,
    pool: &gguf_toolkit::kernels::Pool,
    run: &RunArgs,
    (text, options): (&str, &Options),
    mut each: impl FnMut(&[TokenScore]),
) -> anyhow::Result<Measured> {
    let model = run.model(reader)?;
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
        each(progress.scores);
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

/// Writes a line for each token: place, number, negative log-likelihood, and its text as JSON has it.
fn write_tokens(path: &Path, force: bool, tokenizer: &Tokenizer, scores: &[TokenScore]) -> anyhow::Result<()> {
    let mut lines = String::from("place\ttoken\tnll\ttext\n");
    for score in scores {
        let text = serde_json::Value::from(String::from_utf8_lossy(tokenizer.piece(score.token)));
        lines.push_str(&format!("{}\t{}\t{:.6}\t{text}\n", score.place, score.token, score.nll));
    }
    outputs::write(path, force, lines.as_bytes())
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
