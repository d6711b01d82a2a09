//! `gguf quantize`: a model in a smaller type.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use gguf::gguf::Reader;
use gguf::printable::printable_path;
use gguf::quantize::{self, FileType, GgufSource, Plan};

use crate::{progress, units};

/// Quantizes a model: writes it once more, with weights of fewer bits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf quantize llama-F16.gguf -t Q4_K_M
  gguf quantize llama-F16.gguf -t Q8_0 -o small.gguf --force")]
pub(crate) struct Args {
    /// GGUF file, or any shard of a split model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What to quantize to: a name (in any case) or llama.cpp's number
    #[arg(long = "type", short = 't', value_name = "TYPE", value_parser = parse_type)]
    file_type: FileType,
    /// File to write (default: the model's name with the new type, in this folder)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long, short)]
    force: bool,
    /// Threads (default: one for each core)
    #[arg(long, short = 'j', value_name = "N")]
    threads: Option<NonZeroUsize>,
}

fn parse_type(text: &str) -> Result<FileType, String> {
    let names = || FileType::ALL.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ");
    FileType::from_name(text).ok_or_else(|| format!("one of {}", names()))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let reader = Reader::open(&args.model)?;
    let source = GgufSource::new(&reader);
    let plan = Plan::new(&source, &quantize::Options::new(args.file_type))?;
    let output = args.output.clone().unwrap_or_else(|| quantize::output_name(&args.model, args.file_type));
    if output.is_dir() {
        bail!("{}: is a folder (-o names the file)", printable_path(&output));
    }
    let threads = args.threads.map_or(0, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let bar = progress::bytes(plan.tensor_bytes(), "quantizing");
    let bytes = pool.install(|| {
        quantize::run(&source, &plan, &output, args.force, &|progress| {
            bar.set_position(progress.done);
            true
        })
    })?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "some digits are shown")]
    let (weights, bits) = (plan.parameters() as f64, plan.tensor_bytes() as f64 * 8.0);
    eprintln!(
        "{}: {} -> {}, {:.2} bits per weight, {seconds:.1} s, {:.1} M weights/s",
        printable_path(&output),
        units::bytes(reader.file_bytes()),
        units::bytes(bytes),
        bits / weights,
        weights / seconds / 1e6,
    );
    Ok(ExitCode::SUCCESS)
}
