//! `gguf split` and `gguf merge`: one model in several files, and back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gguf_toolkit::gguf::{Reader, shard_file_name};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::{self, GgufSource, Plan, RunOptions, Source, SplitBy};

use crate::{model_args, outputs, progress, units};

/// Splits a model into several files, as llama-gguf-split does: NAME-00001-of-00003.gguf and so on. Every program that
/// reads split models takes the first of them for the whole.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf split model.gguf --max-size 2G
  gguf split model.gguf --max-tensors 16 -o parts
  gguf split model.gguf --max-tensors 16 --dry-run")]
pub(crate) struct SplitArgs {
    /// File, folder or name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Most bytes of tensors in a file: 500M, 2G (thousands of thousands, as llama-gguf-split counts)
    #[arg(long, alias = "split-max-size", value_name = "SIZE", value_parser = parse_size, required_unless_present = "max_tensors")]
    max_size: Option<u64>,
    /// Most tensors in a file
    #[arg(long, alias = "split-max-tensors", value_name = "N", conflicts_with = "max_size", value_parser = clap::value_parser!(u64).range(1..))]
    max_tensors: Option<u64>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Joins the files of a split model to one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf merge llama-F16-00001-of-00003.gguf
  gguf merge llama-F16-00002-of-00003.gguf -o whole.gguf")]
pub(crate) struct MergeArgs {
    /// Any file of the model, a folder or a name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Debug, clap::Args)]
struct WriteArgs {
    /// File to write (default: the model's name, in this folder)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace existing outputs
    #[arg(long, short)]
    force: bool,
    /// Show the files and their sizes, and write nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// A size of parts, with examples of such.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    units::parse_bytes(text).map_err(|_| "a size such as 500M or 2G".into())
}

pub(crate) fn split(args: &SplitArgs) -> anyhow::Result<ExitCode> {
    let reader = model_args::open(&args.model)?;
    let by = match (args.max_size, args.max_tensors) {
        (_, Some(tensors)) => SplitBy::Tensors(usize::try_from(tensors)?),
        (size, None) => SplitBy::Bytes(size.unwrap_or(u64::MAX)),
    };
    let source = GgufSource::new(&reader);
    let plan = Plan::split(&source, by)?;
    anyhow::ensure!(plan.shards > 1, "{}: fits in one file", printable_path(reader.path()));
    carry_out(&source, &plan, &args.write, &default_name(&reader), "splitting")
}

pub(crate) fn merge(args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let reader = model_args::open(&args.model)?;
    anyhow::ensure!(reader.shards().len() > 1, "{}: one file already", printable_path(reader.path()));
    let source = GgufSource::new(&reader);
    carry_out(&source, &Plan::split(&source, SplitBy::Bytes(u64::MAX))?, &args.write, &default_name(&reader), "merging")
}

/// The name without folder and number of a shard.
fn default_name(reader: &Reader) -> PathBuf {
    quantize::plain_name(reader.path())
}

fn carry_out(
    source: &dyn Source,
    plan: &Plan,
    args: &WriteArgs,
    default: &Path,
    doing: &str,
) -> anyhow::Result<ExitCode> {
    let mut output = args.output.clone().unwrap_or_else(|| default.to_owned());
    // The number of a shard goes before the ending.
    if plan.shards > 1 && output.extension().is_none_or(|extension| extension != "gguf") {
        output.as_mut_os_string().push(".gguf");
    }
    if !args.dry_run {
        outputs::check(&output, plan.shards, args.force)?;
        let bar = progress::bytes(plan.tensor_bytes(), doing);
        let options = RunOptions { force: args.force, ..RunOptions::default() };
        quantize::run(source, plan, &output, &options, &|progress| {
            bar.set_position(progress.done);
            true
        })?;
        bar.finish_and_clear();
    }
    let name = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = String::new();
    for (number, bytes) in plan.file_sizes()?.into_iter().enumerate() {
        let file = if plan.shards > 1 {
            shard_file_name(&name, number as u64, plan.shards as u64)
        } else {
            output.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        let tensors = plan.tensors.iter().filter(|tensor| tensor.shard == number).count();
        let file = printable(&file).to_string();
        text.push_str(&format!("{file}  {tensors} tensors, {}\n", units::bytes(bytes)));
    }
    model_args::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
