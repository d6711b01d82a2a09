//! The perplexity of models on a text.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gguf_toolkit::gguf::{Reader, Value, keys};
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::perplexity::{Kept, Measurement, Options, Outcome, Partial, TokenScore, perplexity};
use gguf_toolkit::tokenizer::Tokenizer;
use serde_json::json;

use super::kept::Keeper;
use super::{Args, bits_per_weight, open};
use crate::interrupt::Catching;
use crate::model_args::{self, RunArgs, short_name};
use crate::progress;
use crate::table::{Column, Table};
use crate::{outputs, units};

/// A model that has been measured.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) bits_per_weight: f64,
    /// Whether its text is cut into the same tokens as that of the first model: figures of others cannot be compared.
    pub(crate) comparable: bool,
    pub(crate) outcome: Outcome,
}

impl Measured {
    fn of(reader: &Reader, model: &Model, name: &str, outcome: Outcome) -> Self {
        let (bytes, bits_per_weight) = (reader.file_bytes(), bits_per_weight(model));
        Self { name: name.to_owned(), bytes, bits_per_weight, comparable: true, outcome }
    }
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

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
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
    let settings = vec![
        ("text (SHA-256)".to_owned(), super::kept::sha256(text.as_bytes())),
        ("context".to_owned(), args.context.to_string()),
        ("stride".to_owned(), args.stride.map_or_else(|| "none".to_owned(), |stride| stride.to_string())),
        ("cache".to_owned(), args.run.kv_type.to_string()),
    ];
    let mut keeper = Keeper::open(args.resume.as_deref(), settings, args.models().len())?;
    let pool = args.run.pool()?;
    let catching = Catching::new();
    let mut measured = Vec::new();
    let mut first_tokens: Option<Value> = None;
    for (place, path) in args.models().into_iter().enumerate() {
        let reader = open(path)?;
        let tokens = reader.metadata().get(keys::TOKENIZER_TOKENS);
        let comparable = first_tokens.as_ref().is_none_or(|first| Some(first) == tokens);
        if first_tokens.is_none() {
            first_tokens = tokens.cloned();
        }
        let name = short_name(path);
        let model = load(&reader, &name, &args.run, &options)?;
        let mut work = Work {
            keeper: &mut keeper,
            catching: &catching,
            place,
            scores: args.per_token.as_ref().map(|_| Vec::new()),
        };
        let Some(outcome) = work.measure(&model, &name, &pool, (&text, &options))? else {
            break;
        };
        if let (Some(path), Some(scores)) = (&args.per_token, work.scores) {
            write_tokens(path, args.force, &Tokenizer::from_gguf(&reader)?, &scores)?;
        }
        measured.push(Measured { comparable, ..Measured::of(&reader, &model, &name, outcome) });
    }
    let interrupted = measured.len() < args.models().len();
    if args.json {
        let all: Vec<_> = measured.iter().map(as_json).collect();
        model_args::print(&format!("{:#}\n", serde_json::Value::from(all)))?;
    } else if !measured.is_empty() {
        table(&measured)?;
    }
    Ok(if interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// The model of a file, with a warning where chunks are longer than it was trained on.
fn load(reader: &Reader, name: &str, run: &RunArgs, options: &Options) -> anyhow::Result<Model> {
    let model = run.model(reader)?;
    let trained = model.hparams().context_length;
    if options.context > trained {
        eprintln!("warning: {name}: a context of {}, the model was trained on {trained}", options.context);
    }
    Ok(model)
}

/// The measurement of one model among those of a run.
struct Work<'a, 'b> {
    keeper: &'a mut Keeper<'b>,
    catching: &'a Catching,
    /// The model's place in the run, from 0.
    place: usize,
    /// What each token costs, where that is wanted.
    scores: Option<Vec<TokenScore>>,
}

impl Work<'_, '_> {
    /// Measures with a progress bar. Returns nothing after Ctrl-C, which is reported.
    fn measure(
        &mut self,
        model: &Model,
        name: &str,
        pool: &Pool,
        (text, options): (&str, &Options),
    ) -> anyhow::Result<Option<Outcome>> {
        let failed = |error| anyhow::anyhow!("{name}: {error}");
        let done = match self.keeper.begin(self.place, name, model)? {
            None => Partial::default(),
            Some(Kept::Text(partial)) => partial,
            Some(Kept::Tasks { .. }) => anyhow::bail!("{name}: tasks were scored, and not a text"),
        };
        let mut measurement = Measurement::new(model, pool, text, options, done).map_err(failed)?;
        let bar = progress::steps(measurement.progress().total as u64, name);
        bar.set_position(done.chunks as u64);
        let mut last_said = Instant::now();
        while !self.catching.interrupted() && measurement.advance().map_err(failed)? {
            let now = measurement.progress();
            // Where nobody sees the bar (a pipe, a log), a line each minute says that the work goes on.
            if bar.is_hidden() && last_said.elapsed() > Duration::from_secs(60) {
                eprintln!("{name}: chunk {} of {}, perplexity {:.4}", now.done, now.total, now.perplexity);
                last_said = Instant::now();
            }
            if let Some(scores) = &mut self.scores {
                scores.extend_from_slice(now.scores);
            }
            bar.set_position(now.done as u64);
            bar.set_message(format!("{:.4}", now.perplexity));
            self.keeper.keep(self.place, Kept::Text(measurement.partial()), now.done == now.total)?;
        }
        bar.finish_and_clear();
        let (now, outcome) = (measurement.progress(), measurement.outcome());
        if now.done == now.total {
            return Ok(Some(outcome));
        }
        self.keeper.keep(self.place, Kept::Text(measurement.partial()), true)?;
        let figure = match now.done {
            0 => String::new(),
            _ => format!(", perplexity {:.4} ± {:.4} so far", outcome.perplexity, outcome.stderr),
        };
        eprintln!("{name}: stopped after chunk {} of {}{figure}: {}", now.done, now.total, self.keeper.how_to_go_on());
        Ok(None)
    }
}

/// Measures one model, with a progress bar.
pub(crate) fn measure(
    reader: &Reader,
    name: &str,
    pool: &Pool,
    run: &RunArgs,
    text: &str,
    options: &Options,
) -> anyhow::Result<Measured> {
    let model = load(reader, name, run, options)?;
    let bar = progress::steps(0, name);
    let outcome = perplexity(&model, pool, text, options, &mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{:.4}", progress.perplexity));
        true
    });
    bar.finish_and_clear();
    let outcome = outcome.map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let outcome = outcome.ok_or_else(|| anyhow::anyhow!("{name}: stopped"))?;
    Ok(Measured::of(reader, &model, name, outcome))
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
