//! `gguf bench`: how fast a model runs, beside what the machine can do.

mod load;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gguf_toolkit::bench::{self, Kind, Options, Shape, SyntheticModel, Test};
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::model::Model;
use gguf_toolkit::printable::printable_path;
use gguf_toolkit::quantize::{self, FileType, Plan};

use crate::model_args::{self, RunArgs, short_name};
use crate::quantize::types::file_types;
use crate::{outputs, progress, units};

/// Measures how fast a model runs: prompts (pp) and generation (tg), each beside the machine's limit, which is
/// measured in the same run.
///
/// The limit of a prompt is all its products at the rate at which this CPU multiplies out of registers; the limit of
/// generation is all bytes of weights and cache at the rate at which memory is read. Without a model, the embedded one
/// is measured; with --shape, a made one, whose weights are pseudorandom. With --url, a server that runs is measured: how long its clients
/// wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf bench model.gguf                              # prompts of 512 tokens, generation of 128
  gguf bench model.gguf -p 512 -n 32 -d 0,4096       # also after 4096 other tokens
  gguf bench --shape llama-1b -t Q4_K_M              # no file needed
  gguf bench --shape llama-1b -t F16 --save 1b.gguf  # write the synthetic model, measure nothing
  gguf bench --url http://127.0.0.1:8080 --concurrency 16 --requests 64  # any server of OpenAI's completions")]
pub(crate) struct Args {
    /// File, folder or name (default: the embedded model)
    #[arg(value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Make a model of this shape in place of a file's
    #[arg(long, value_name = "SHAPE", conflicts_with = "model", value_parser = shapes())]
    shape: Option<&'static str>,
    /// Mix that the synthetic model is quantized to
    #[arg(long = "type", short = 't', value_name = "TYPE", requires = "shape", default_value = "Q4_K_M", value_parser = file_types(), hide_possible_values = true)]
    file_type: FileType,
    /// Write the synthetic model to this file, and measure nothing
    #[arg(long, value_name = "FILE", requires = "shape")]
    save: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, short, requires = "save")]
    force: bool,
    /// Lengths of prompts (0: none)
    #[arg(long, short, value_name = "N", value_delimiter = ',', default_value = "512", allow_negative_numbers = true, value_parser = model_args::parse_length)]
    prompt: Vec<usize>,
    /// Tokens to generate (0: none)
    #[arg(long = "generate", short = 'n', value_name = "N", value_delimiter = ',', default_value = "128", allow_negative_numbers = true, value_parser = model_args::parse_length)]
    generation: Vec<usize>,
    /// Tokens that are there before
    #[arg(long, short, value_name = "N", value_delimiter = ',', default_value = "0", allow_negative_numbers = true, value_parser = model_args::parse_length)]
    depth: Vec<usize>,
    /// How often each test runs
    #[arg(long, short, value_name = "N", default_value_t = 3, allow_negative_numbers = true, value_parser = parse_repetitions)]
    repetitions: usize,
    /// Tokens of a forward pass
    #[arg(long, short, value_name = "N", default_value_t = 512, allow_negative_numbers = true, value_parser = model_args::parse_context)]
    batch: usize,
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    // Last: its heading stands over all that follows.
    #[command(flatten)]
    load: load::LoadArgs,
}

/// Most repetitions of a test.
const MOST_REPETITIONS: usize = 10_000;

fn parse_repetitions(text: &str) -> Result<usize, String> {
    let within = text.trim().parse().ok().filter(|n| (1..=MOST_REPETITIONS).contains(n));
    within.ok_or_else(|| format!("a whole number from 1 to {MOST_REPETITIONS}"))
}

/// A parser of shapes that shells can complete and `--help` lists.
fn shapes() -> impl TypedValueParser<Value = &'static str> {
    let values = Shape::all().map(|shape| PossibleValue::new(shape.name()).help(format!("like {}", shape.like())));
    PossibleValuesParser::new(values).try_map(|name| Shape::from_name(&name).map(Shape::name).ok_or("no such shape"))
}

/// A loaded model, and how long that took.
struct Loaded {
    name: String,
    model: Arc<Model>,
    file_bytes: u64,
    load_time: Duration,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(code) = load::run(&args.load, args.json)? {
        return Ok(code);
    }
    let made = args.shape.map(|name| Synthetic::new(name, args.file_type)).transpose()?;
    if let (Some(made), Some(path)) = (&made, &args.save) {
        return save(made, path, args.force);
    }
    let pool = args.run.pool()?;
    let loaded = load(args, made.as_ref())?;
    // The made weights are in the quantized model now.
    drop(made);
    let options = Options {
        prompts: args.prompt.clone(),
        generations: args.generation.clone(),
        depths: args.depth.clone(),
        repetitions: args.repetitions,
        batch_size: args.batch,
        kv_type: args.run.kv_type,
    };
    let count = (args.prompt.len() + args.generation.len()) * args.depth.len();
    let bar = progress::steps(count as u64, "measuring");
    let report = bench::measure(&loaded.model, &pool, &options, &mut |test| {
        bar.set_message(test_name(test));
        bar.inc(1);
        true
    });
    bar.finish_and_clear();
    let report = report.with_context(|| loaded.name.clone())?.context("stopped")?;
    let shown = report::Shown { loaded: &loaded, report: &report, pool: &pool, run: &args.run };
    let text = if args.json { format!("{:#}\n", shown.json()) } else { shown.markdown() };
    model_args::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `pp512`, `tg128 @ 4096`.
fn test_name(test: Test) -> String {
    let kind = if test.kind == Kind::Prompt { "pp" } else { "tg" };
    let depth = if test.depth > 0 { format!(" @ {}", test.depth) } else { String::new() };
    format!("{kind}{}{depth}", test.tokens)
}

fn load(args: &Args, made: Option<&Synthetic>) -> anyhow::Result<Loaded> {
    let in_memory = match (&args.model, made) {
        (_, Some(made)) => Some(made.reader()?),
        (None, None) => Some(model_args::embedded()?),
        (Some(_), None) => None,
    };
    let start = Instant::now();
    let reader = match (in_memory, &args.model) {
        (Some(reader), _) => reader,
        (None, path) => model_args::open(path.as_deref().unwrap_or(Path::new("")))?,
    };
    let model = Arc::new(args.run.model(&reader)?);
    let load_time = start.elapsed();
    let name = made.map_or_else(|| short_name(args.model.as_ref()), |made| made.name.clone());
    Ok(Loaded { name, model, file_bytes: reader.file_bytes(), load_time })
}

/// A synthetic model with its plan.
struct Synthetic {
    name: String,
    source: SyntheticModel,
    plan: Plan,
}

impl Synthetic {
    fn new(shape: &str, file_type: FileType) -> anyhow::Result<Self> {
        let shape = Shape::from_name(shape).context("an unknown shape")?;
        let source = SyntheticModel::new(shape)?;
        let plan = Plan::new(&source, &quantize::Options::new(file_type))?;
        Ok(Self { name: format!("{}-{file_type}", shape.name()), source, plan })
    }

    fn reader(&self) -> anyhow::Result<Reader> {
        let bytes = quantize::run_in_memory(&self.source, &self.plan)?;
        Ok(Reader::from_bytes(&self.name, Bytes::from(bytes))?)
    }
}

fn save(made: &Synthetic, path: &Path, force: bool) -> anyhow::Result<ExitCode> {
    outputs::check(path, 1, force)?;
    let start = Instant::now();
    let bar = progress::bytes(made.plan.tensor_bytes(), "making");
    let options = quantize::RunOptions { force, ..quantize::RunOptions::default() };
    let outcome = quantize::run(&made.source, &made.plan, path, &options, &|progress| {
        bar.set_position(progress.done);
        true
    })?;
    bar.finish_and_clear();
    eprintln!(
        "{}: {} in {:.1} s",
        printable_path(path),
        units::bytes(outcome.file_bytes),
        start.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}
