//! `gguf compare`: a model and what has been made of it, side by side.

mod charts;
mod page;
mod quants;
mod report;
mod theme;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gguf_toolkit::compare::{Base, BaseFile, Comparison, Options, Outcome, Subject, answer_speed, tensor_errors};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::printable::printable_path;
use gguf_toolkit::quantize::file_type_name_of;

use crate::interrupt::Catching;
use crate::model_args::{self, RunArgs, short_name};
use crate::perplexity::default_text;
use crate::{outputs, progress};
use report::{Entry, Report};

/// Tokens that are answered for the speed of answers, and the longest time for them.
const ANSWER_TIME: Duration = Duration::from_secs(2);
const ANSWER_TOKENS: usize = 96;
/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;
/// Pixels of the picture of `--svg`.
const SVG_SIZE: (u32, u32) = (900, 480);

/// Compares models made from one base with it, in one pass over a text: which quantization is good enough?
///
/// Perplexity, divergence from the base, the change of the true token's probability and how often the likeliest token is the
/// same are llama-perplexity's figures, and no file of logits is needed. With --types the models are made on the way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf compare f16.gguf q4_k_m.gguf -f wiki.test.raw
  gguf compare f16.gguf --types Q8_0,Q5_K_M,Q4_K_M       # makes them, measures, removes them
  gguf compare ./Llama-3.2-1B-Instruct --types Q6_K,IQ4_XS --imatrix news.imatrix.gguf -f text.txt
  gguf compare f16.gguf q4_k_m.gguf -f text.txt --html report.html --svg front.svg --csv figures.csv
  gguf compare f16.gguf q4_k_m.gguf -f text.txt --exact                 # what the weights lose, without rounded input
  gguf compare f16.gguf q4_k_m.gguf -f text.txt --kl-base logits.bin    # made once, then read")]
pub(crate) struct Args {
    /// What all are compared with, then the models: files, folders or names (default: the embedded model as the base)
    #[arg(value_name = "BASE [MODEL...]")]
    models: Vec<PathBuf>,
    /// Text to measure on, - for standard input (default: the embedded text)
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens of a chunk (default: 512, or that of --kl-base)
    #[arg(long, short, alias = "ctx-size", value_name = "N", allow_negative_numbers = true, value_parser = model_args::parse_context)]
    context: Option<usize>,
    /// Most chunks (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Tokens of a forward pass
    #[arg(long, short, value_name = "N", default_value_t = 2048, allow_negative_numbers = true, value_parser = model_args::parse_context)]
    batch: usize,
    /// Judge the weights alone: decode them to single precision, so that products do not round their input (takes four bytes of
    /// memory a weight; speeds are not those of the types)
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    make: quants::MakeArgs,
    /// Logits of the base, as llama-perplexity has them (--kl-divergence-base): read where the file exists, in place of
    /// running BASE; else written
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    kl_base: Option<PathBuf>,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Write the figures as CSV, too
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Write a page with pictures and the worst passages: one file, to be opened in any browser
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    html: Option<PathBuf>,
    /// Write the picture of size against quality
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    svg: Option<PathBuf>,
    /// Replace existing outputs
    #[arg(long, help_heading = "Output")]
    force: bool,
}

/// A model that is compared.
struct Loaded {
    name: String,
    reader: Reader,
    model: Model,
}

impl Loaded {
    fn new(name: String, reader: Reader, args: &Args, pool: &Pool) -> anyhow::Result<Self> {
        let model = args.run.model(&reader)?;
        let model = if args.exact { model.decoded(pool)? } else { model };
        Ok(Self { name, reader, model })
    }

    fn subject(&self) -> Subject<'_> {
        Subject { name: &self.name, model: &self.model }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.models.len() < 2 && args.make.types.is_empty() {
        bail!("nothing to compare the base with: name models after it, or let --types Q8_0,Q4_K_M make some");
    }
    let catching = Catching::new();
    match compare(args, &catching) {
        Err(_) if catching.interrupted() => {
            eprintln!("stopped, nothing was measured");
            Ok(ExitCode::from(INTERRUPTED))
        }
        result => result,
    }
}

/// Checks that the outputs may be written: before anything is done, and once more when all inputs are known.
fn check_outputs(args: &Args) -> anyhow::Result<()> {
    let files = [&args.csv, &args.html, &args.svg];
    files.into_iter().flatten().try_for_each(|path| outputs::check(path, 1, args.force))
}

fn compare(args: &Args, catching: &Catching) -> anyhow::Result<ExitCode> {
    check_outputs(args)?;
    let logits = args.kl_base.as_deref().filter(|path| path.exists()).map(BaseFile::open).transpose()?;
    let context = args.context.or(logits.as_ref().map(|file| file.header().context)).unwrap_or(512);
    let pool = args.run.pool()?;
    let made = quants::QuantFolder::new(&args.make);
    let base = Loaded::new(short_name(args.models.first()), made.base(args.models.first(), catching)?, args, &pool)?;
    let mut models = Vec::new();
    for path in args.models.iter().skip(1) {
        models.push(Loaded::new(short_name(Some(path)), model_args::open(path)?, args, &pool)?);
    }
    check_outputs(args)?;
    report_warnings(&base, context);
    for path in made.quantize(&base.reader, pool.threads(), catching)? {
        models.push(Loaded::new(short_name(Some(&path)), Reader::open(&path)?, args, &pool)?);
    }
    report_memory(&base, &models);
    let outcome = measure(args, &pool, &base, &models, (logits.as_ref(), context), catching)?;
    let stopped = catching.interrupted();
    let most = if stopped { Duration::ZERO } else { ANSWER_TIME };
    let of = |model, run| entry(model, args, &pool, context, if run { most } else { Duration::ZERO });
    let entries = models.iter().map(|model| of(model, true)).collect();
    let report = Report::new(outcome, text_name(args, logits.is_some()), of(&base, logits.is_none()), entries);
    write(args, args.csv.as_deref(), || Ok(report.csv()))?;
    write(args, args.svg.as_deref(), || Ok(theme::alone(&charts::front(&report, SVG_SIZE.0, SVG_SIZE.1)?)))?;
    write(args, args.html.as_deref(), || {
        let errors: Result<Vec<_>, _> =
            models.iter().map(|model| tensor_errors(&base.reader, &model.reader, &pool)).collect();
        page::page(&report, base.model.tokenizer(), &errors?)
    })?;
    if args.json {
        model_args::print(&format!("{:#}\n", report.json()))?;
    } else {
        report.table()?;
    }
    Ok(if stopped { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Says what is unusual about the base; what is made of it is as unusual.
fn report_warnings(base: &Loaded, context: usize) {
    for warning in base.model.warnings() {
        eprintln!("warning: {}: {warning}", base.name);
    }
    let trained = base.model.hparams().context_length;
    if context > trained {
        eprintln!("warning: {}: a context of {context}, the model was trained on {trained}", base.name);
    }
}

/// Writes a file, where one is wished for.
fn write(args: &Args, path: Option<&Path>, text: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    outputs::write(path, args.force, text()?.as_bytes())
}

/// What the text is called in reports.
fn text_name(args: &Args, logits_are_read: bool) -> String {
    match (&args.file, &args.kl_base) {
        (Some(path), _) => printable_path(path).to_string(),
        (None, Some(path)) if logits_are_read => format!("the text of {}", printable_path(path)),
        _ => "the embedded text".to_owned(),
    }
}

/// Says when the models have no room in memory together: each group of chunks would read them all from the disk.
fn report_memory(base: &Loaded, models: &[Loaded]) {
    let bytes: u64 = models.iter().chain([base]).map(|model| model.model.weight_bytes()).sum();
    if let Some(available) = gguf_toolkit::memory::available().filter(|&available| available < bytes) {
        eprintln!(
            "warning: the models take {}, {} of memory are free: each forward pass reads them from the disk \
             (fewer passes: --batch; a few models at a time: --kl-base)",
            crate::units::bytes(bytes),
            crate::units::bytes(available)
        );
    }
}

/// Takes the text through all models. After Ctrl-C what has been measured until then counts.
fn measure(
    args: &Args,
    pool: &Pool,
    base: &Loaded,
    models: &[Loaded],
    (logits, context): (Option<&BaseFile>, usize),
    catching: &Catching,
) -> anyhow::Result<Outcome> {
    let subjects: Vec<Subject<'_>> = models.iter().map(Loaded::subject).collect();
    let text = match (&args.file, logits) {
        (Some(path), _) => model_args::read_text(path)?,
        // The file knows its text.
        (None, Some(_)) => String::new(),
        (None, None) => {
            eprintln!("measuring on the embedded text (-f FILE takes another, -f - standard input)");
            default_text()?
        }
    };
    let chunks = args.chunks.map(|chunks| chunks as usize);
    let options = Options { context, batch: args.batch, chunks, kv_type: args.run.kv_type };
    let source = match logits {
        Some(file) => {
            check_logits(args, file, base, &text, context)?;
            Base::File(file)
        }
        None => Base::Model(base.subject(), &text),
    };
    let mut output = None;
    let mut comparison = Comparison::new(source, &subjects, pool, &options)?;
    if let (Some(path), None) = (&args.kl_base, logits) {
        let bytes = comparison.header().file_bytes().context("no file is as large as the logits")?;
        let file = output.insert(outputs::create(path, false, bytes)?);
        comparison.write_base(file)?;
    }
    let bar = progress::steps(comparison.progress().total as u64, "comparing");
    let mut last_said = Instant::now();
    while !catching.interrupted() && comparison.advance()? {
        let now = comparison.progress();
        bar.set_position(now.done as u64);
        // Where nobody sees the bar (a pipe, a log), a line each minute says that the work goes on.
        if bar.is_hidden() && last_said.elapsed() > Duration::from_secs(60) {
            let figures: Vec<String> =
                models.iter().zip(&now.kl).map(|(model, kl)| format!("{} {kl:.5}", model.name)).collect();
            eprintln!("chunk {} of {}, mean divergence: {}", now.done, now.total, figures.join(", "));
            last_said = Instant::now();
        }
    }
    bar.finish_and_clear();
    let now = comparison.progress();
    let outcome = comparison.outcome();
    if now.done == 0 {
        bail!("stopped before the first chunk was done");
    }
    if now.done < now.total {
        eprintln!("stopped after chunk {} of {}: the figures are those of the text until there", now.done, now.total);
    } else if let Some(output) = output {
        output.commit()?;
    }
    Ok(outcome)
}

/// Checks that a file of logits is of the base's vocabulary and, where one is given, of this text in such chunks.
fn check_logits(args: &Args, file: &BaseFile, base: &Loaded, text: &str, context: usize) -> anyhow::Result<()> {
    let name = printable_path(args.kl_base.as_deref().unwrap_or(Path::new(""))).to_string();
    let header = file.header();
    if header.context != context {
        bail!("{name}: has chunks of {} tokens, and not {context} (--context)", header.context);
    }
    if header.vocab_size != base.model.decoder().vocab_size() {
        let (found, expected) = (header.vocab_size, base.model.decoder().vocab_size());
        bail!("{name}: is of a vocabulary of {found} tokens, {} has {expected}", base.name);
    }
    if args.file.is_some() {
        let options = gguf_toolkit::tokenizer::EncodeOptions { add_special: true, parse_special: false };
        let tokens = base.model.tokenizer().encode(text.strip_suffix('\n').unwrap_or(text), options)?;
        if !tokens.starts_with(&header.tokens) {
            bail!("{name}: is of another text than {} (without -f its own is taken)", text_name(args, true));
        }
    }
    eprintln!("reading the logits of the base from {name}; {} is not run", base.name);
    Ok(())
}

/// What is progress_bar of a model besides its figures. Its speed is measured for `most` at most.
fn entry(loaded: &Loaded, args: &Args, pool: &Pool, context: usize, most: Duration) -> Entry {
    // Any tokens will do.
    let vocab = loaded.model.decoder().vocab_size().min(1000);
    let count = if most.is_zero() { 0 } else { ANSWER_TOKENS };
    let tokens: Vec<u32> = (0..count).filter_map(|i| u32::try_from((i * 7 + 3) % vocab).ok()).collect();
    let (answer, cache) = answer_speed(&loaded.model, pool, &tokens, (context, args.run.kv_type), most);
    let file_type = file_type_name_of(loaded.reader.metadata());
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    let bits_per_weight = loaded.model.weight_bytes() as f64 * 8.0 / loaded.model.parameters() as f64;
    Entry {
        name: loaded.name.clone(),
        file_type: file_type.map(str::to_owned),
        bytes: loaded.reader.file_bytes(),
        bits_per_weight,
        memory_bytes: loaded.model.weight_bytes() + cache as u64,
        answer_rate: answer.rate(),
    }
}
