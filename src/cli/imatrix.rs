//! `gguf imatrix`: importance matrices: made from a text, merged, and shown.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use gguf_toolkit::gguf::{Reader, TensorInfo, TensorSpec};
use gguf_toolkit::imatrix::{Collector, FileForm, ImportanceMatrix, Options, by_layer, statistics};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize;
use serde_json::json;

use crate::interrupt::Catching;
use crate::model_args::{self, RunArgs};
use crate::table::{Column, Table};
use crate::{outputs, progress};

/// Time between two saves of what is known so far.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// Names that a warning lists.
const NAMED: usize = 8;

/// Runs a text through a model and writes down how large the inputs of each matrix are: an importance matrix, by which
/// `gguf quantize --imatrix` weighs errors.
///
/// The file is the one that llama-imatrix writes. Ctrl-C ends the work and keeps what is known so far.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "gguf imatrix [OPTIONS] <MODEL> --file <TEXT>\n       \
                      gguf imatrix --in-file <FILE>... [--show-statistics]",
    after_help = "Examples:
  gguf imatrix model.gguf -f text.txt
  gguf imatrix model.gguf -f text.txt -c 256 --chunks 100 -o model.imatrix.gguf
  gguf imatrix model.gguf -f text.txt --resume part.imatrix.gguf   # go on where it was stopped
  gguf imatrix --in-file news.imatrix.gguf --in-file code.imatrix.gguf -o both.imatrix.gguf
  gguf imatrix --in-file news.imatrix.gguf --show-statistics"
)]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "MODEL", requires = "file")]
    model: Option<PathBuf>,
    /// Text to read, - for standard input
    #[arg(long, short, value_name = "FILE", requires = "model")]
    file: Option<PathBuf>,
    /// File to write
    #[arg(long, short, alias = "output-file", value_name = "FILE", default_value = "imatrix.gguf")]
    output: PathBuf,
    /// Form of the file (default: dat where its name ends so, else gguf)
    #[arg(long, value_name = "FORM")]
    output_format: Option<Form>,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
    /// Matrix to begin with, or to merge, of either form; repeatable
    #[arg(long, value_name = "FILE")]
    in_file: Vec<PathBuf>,
    /// Matrix of a run over the same text that was stopped: begin with it, after the chunks that it has
    #[arg(long, value_name = "FILE", requires = "file", conflicts_with = "chunk")]
    resume: Option<PathBuf>,
    /// Show how the importance of each tensor is spread, and write nothing
    #[arg(long, requires = "in_file", conflicts_with = "file")]
    show_statistics: bool,
    /// Print statistics as JSON
    #[arg(long, requires = "show_statistics")]
    json: bool,
    /// Tokens of a chunk (default: 512)
    #[arg(long, short, alias = "ctx-size", value_name = "N", allow_negative_numbers = true, value_parser = model_args::parse_context)]
    context: Option<usize>,
    /// Most chunks (0 or -1: all)
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    chunks: i64,
    /// Leave out the first chunks of the text
    #[arg(long, alias = "from-chunk", value_name = "N", default_value_t = 0, hide_default_value = true)]
    chunk: usize,
    /// Tokens of a forward pass
    #[arg(long, short, alias = "batch-size", value_name = "N", default_value_t = 2048, allow_negative_numbers = true, value_parser = model_args::parse_context)]
    batch: usize,
    /// Take the output matrix in too
    #[arg(long)]
    process_output: bool,
    /// Control tokens in the text are such, and not text
    #[arg(long)]
    parse_special: bool,
    /// Do not measure the perplexity of the text: faster, nothing is computed of the output matrix
    #[arg(long)]
    no_ppl: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// Form of a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// GGUF
    Gguf,
    /// llama.cpp's own of before 2025, without counts of experts
    Dat,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.show_statistics {
        return show(args);
    }
    match (&args.model, &args.file) {
        (Some(model), Some(file)) => collect(args, model, file),
        _ => merge(args),
    }
}

/// All matrices of `--in-file`, in chunks of so many tokens: the first one's, where nothing is said of it.
fn merged(args: &Args) -> anyhow::Result<ImportanceMatrix> {
    let mut matrices = Vec::new();
    for path in &args.in_file {
        matrices.push(ImportanceMatrix::open(path)?);
    }
    let first = matrices.iter().find_map(|matrix| matrix.chunk_size);
    let given = args.context.and_then(|context| u32::try_from(context).ok());
    let mut merged = ImportanceMatrix::new(given.or(first).unwrap_or(512));
    for (matrix, path) in matrices.iter().zip(&args.in_file) {
        merged.merge(matrix).with_context(|| printable_path(path).to_string())?;
    }
    Ok(merged)
}

fn merge(args: &Args) -> anyhow::Result<ExitCode> {
    ensure!(!args.in_file.is_empty(), "no model and text (gguf imatrix MODEL -f TEXT), and no --in-file to merge");
    let matrix = merged(args)?;
    outputs::check(&args.output, 1, args.force)?;
    report_unseen(&matrix);
    write(args, &matrix, args.force)?;
    report_written(args, &matrix);
    Ok(ExitCode::SUCCESS)
}

fn collect(args: &Args, model: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    let mut base = merged(args)?;
    let context = args.context.unwrap_or(512);
    let mut first_chunk = args.chunk;
    if let Some(path) = &args.resume {
        let part = ImportanceMatrix::open(path)?;
        let name = printable_path(path);
        ensure!(
            part.chunk_size.is_none_or(|size| size as usize == context),
            "{name}: its chunks have {} tokens, and not {context} (--context)",
            part.chunk_size.unwrap_or(0),
        );
        first_chunk = part.chunks as usize;
        base.merge(&part).with_context(|| name.to_string())?;
    }
    let text = model_args::read_text(file)?;
    let dataset = Some(file.to_string_lossy().into_owned());
    // What goes on with the same text does not name it twice.
    let dataset = dataset.filter(|name| args.resume.is_none() || base.datasets.last() != Some(name));
    let reader = model_args::open(model)?;
    outputs::check(&args.output, 1, args.force)?;
    let pool = args.run.pool()?;
    let loaded = args.run.model(&reader)?;
    let trained = loaded.hparams().context_length;
    if context > trained {
        eprintln!("warning: a context of {context}, the model was trained on {trained}");
    }
    let options = Options {
        context,
        batch: args.batch,
        first_chunk,
        chunks: usize::try_from(args.chunks).ok().filter(|&chunks| chunks > 0),
        process_output: args.process_output,
        parse_special: args.parse_special,
        perplexity: !args.no_ppl,
        kv_type: args.run.kv_type,
    };
    let collector = Collector::new(&loaded, &pool, reader.tensors(), (&text, dataset), &base, options)?;
    let mut force = args.force;
    let (matrix, interrupted) = work(args, collector, &mut force)?;
    report_unseen(&matrix);
    report_missing(&reader, &matrix);
    write(args, &matrix, force)?;
    report_written(args, &matrix);
    Ok(if interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// Takes the text through the model. Returns what is known, and whether the work was interrupted. `force` says whether
/// an existing output may be replaced, and comes to say so once it is this run's own.
fn work(args: &Args, mut collector: Collector<'_>, force: &mut bool) -> anyhow::Result<(ImportanceMatrix, bool)> {
    let catching = Catching::new();
    let start = Instant::now();
    let (mut last_said, mut last_saved) = (start, start);
    let first = collector.progress().done;
    let bar = progress::steps((collector.progress().total - first) as u64, "reading");
    while !catching.interrupted() && collector.advance()? {
        let now = collector.progress();
        let perplexity = now.perplexity.map_or_else(String::new, |(value, _)| format!("perplexity {value:.4}"));
        bar.set_position((now.done - first) as u64);
        bar.set_message(perplexity.clone());
        if bar.is_hidden() && last_said.elapsed() > Duration::from_secs(60) {
            eprintln!("chunk {} of {} {perplexity}", now.done, now.total);
            last_said = Instant::now();
        }
        if last_saved.elapsed() > SAVE_EVERY {
            write(args, &collector.matrix()?, *force)?;
            *force = true;
            last_saved = Instant::now();
        }
    }
    bar.finish_and_clear();
    let now = collector.progress();
    let interrupted = now.done < now.total;
    if let Some((value, stderr)) = now.perplexity {
        eprintln!("perplexity {value:.4} ± {stderr:.4}");
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = (now.done - first) as f64 / start.elapsed().as_secs_f64();
    eprintln!("{} chunks in {:.1} s, {rate:.2} a second", now.done - first, start.elapsed().as_secs_f64());
    if interrupted {
        eprintln!("stopped after chunk {} of {}: --resume FILE goes on from it", now.done, now.total);
    }
    Ok((collector.matrix()?, interrupted))
}

fn form(args: &Args) -> FileForm {
    let is_dat = || args.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("dat"));
    match args.output_format {
        Some(Form::Dat) => FileForm::Legacy,
        None if is_dat() => FileForm::Legacy,
        _ => FileForm::Gguf,
    }
}

fn write(args: &Args, matrix: &ImportanceMatrix, force: bool) -> anyhow::Result<()> {
    let bytes = matrix.to_bytes(form(args))?;
    outputs::write(&args.output, force, &bytes)
}

fn report_written(args: &Args, matrix: &ImportanceMatrix) {
    let (tensors, chunks) = (matrix.entries.len(), matrix.chunks);
    eprintln!(
        "{}: {tensors} tensors, {chunks} chunks of {} tokens",
        printable_path(&args.output),
        matrix.chunk_size.unwrap_or(0)
    );
}

/// Warns of experts that no token was routed to.
fn report_unseen(matrix: &ImportanceMatrix) {
    let lines: Vec<String> = matrix
        .partly_seen()
        .map(|(name, entry)| format!("{}: {} of {}", printable(name), entry.unseen(), entry.counts.len()))
        .collect();
    if !lines.is_empty() {
        eprintln!(
            "warning: experts that no token was routed to, in {} tensors; they are quantized without importance (more text may \
             reach them): {}",
            lines.len(),
            listed(&lines)
        );
    }
}

/// Warns of tensors that would be quantized and had no input: blocks that predict further tokens, say.
fn report_missing(reader: &Reader, matrix: &ImportanceMatrix) {
    let own =
        |tensor: &&TensorInfo| tensor.name.starts_with("blk.") && quantize::is_quantized(&TensorSpec::from(*tensor));
    let missing: Vec<String> = reader
        .tensors()
        .iter()
        .filter(own)
        .filter(|tensor| !matrix.entries.contains_key(&tensor.name))
        .map(|tensor| printable(&tensor.name).to_string())
        .collect();
    if !missing.is_empty() {
        eprintln!("warning: nothing is known of {} tensors that can be quantized: {}", missing.len(), listed(&missing));
    }
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}

fn show(args: &Args) -> anyhow::Result<ExitCode> {
    let matrix = merged(args)?;
    let tensors = statistics(&matrix);
    ensure!(!tensors.is_empty(), "no tensor had an input");
    let layers = by_layer(&tensors);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let tensors = tensors.iter().map(|t| {
            json!({
                "name": t.name, "layer": t.layer, "elements": t.elements, "total": t.total, "min": t.min,
                "max": t.max, "mean": t.mean, "deviation": t.deviation, "active": t.active, "entropy": t.entropy,
                "normalized_entropy": t.normalized_entropy(), "outliers": t.outliers, "cosine": t.cosine,
                "unseen": matrix.entries.get(&t.name).map(gguf_toolkit::imatrix::Entry::unseen),
            })
        });
        let layers = layers
            .iter()
            .map(|l| json!({ "layer": l.layer, "total": l.total, "outliers": l.outliers, "cosine": l.cosine }));
        let report = json!({
            "schema_version": 1,
            "datasets": matrix.datasets,
            "chunks": matrix.chunks,
            "chunk_size": matrix.chunk_size,
            "tensors": tensors.collect::<Vec<_>>(),
            "layers": layers.collect::<Vec<_>>(),
        });
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let datasets: BTreeSet<String> = matrix.datasets.iter().map(|name| printable(name).to_string()).collect();
    let datasets: Vec<String> = datasets.into_iter().collect();
    writeln!(out, "{} tensors, {} chunks of {}\n", tensors.len(), matrix.chunks, listed(&datasets))?;
    let mut table = Table::new([
        Column::right("layer"),
        Column::left("tensor"),
        Column::right("sum"),
        Column::right("least").optional(5),
        Column::right("greatest").optional(4),
        Column::right("mean").optional(2),
        Column::right("deviation").optional(3),
        Column::right("active").optional(6),
        Column::right("columns").optional(7),
        Column::right("entropy").optional(8),
        Column::right("of the most").optional(1),
        Column::right("outliers").optional(9),
        Column::right("cosine").optional(10),
    ]);
    let percent = |share: f64| format!("{:.2}%", share * 100.0);
    for t in &tensors {
        table.row([
            t.layer.map_or_else(|| "-".to_owned(), |layer| layer.to_string()),
            printable(t.part()).to_string(),
            format!("{:.2}", t.total),
            format!("{:.4}", t.min),
            format!("{:.4}", t.max),
            format!("{:.4}", t.mean),
            format!("{:.4}", t.deviation),
            percent(t.active),
            t.elements.to_string(),
            format!("{:.4}", t.entropy),
            percent(t.normalized_entropy()),
            percent(t.outliers),
            t.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.4}")),
        ]);
    }
    table.write(&mut out)?;
    writeln!(out, "\nMeans of each layer, weighted by columns")?;
    let mut table =
        Table::new([Column::right("layer"), Column::right("sum"), Column::right("outliers"), Column::right("cosine")]);
    for l in &layers {
        table.row([l.layer.to_string(), format!("{:.2}", l.total), percent(l.outliers), format!("{:.4}", l.cosine)]);
    }
    table.write(&mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
