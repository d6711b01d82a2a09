//! Models made on the way, from the base, in a folder that goes with them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gguf_toolkit::convert::{self, Conversion, Folder, OutputType};
use gguf_toolkit::files::check_room;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::printable::printable_path;
use gguf_toolkit::quantize::{self, FileType, GgufSource, Options, Plan, Progress, RunOptions};

use crate::interrupt::Catching;
use crate::quantize::args::open_importance;
use crate::quantize::{named_model, plan_report, types};
use crate::{model_args, outputs, progress};

/// Which models are made, and where.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Models made from BASE")]
pub(crate) struct MakeArgs {
    /// Quantize BASE to these types and compare them, too: Q8_0,Q5_K_M,IQ4_XS
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = types::file_types(), hide_possible_values = true)]
    pub(super) types: Vec<FileType>,
    /// Weigh errors by this importance matrix (`gguf imatrix` makes one)
    #[arg(long, value_name = "FILE", requires = "types")]
    imatrix: Option<PathBuf>,
    /// Quantize what is quantized already; that loses more than quantizing from F16 or F32
    #[arg(long, requires = "types")]
    allow_requantize: bool,
    /// Keep what is made in this folder (default: it is removed)
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A folder for what is made, removed with it unless it is kept.
pub(super) struct QuantFolder<'a> {
    args: &'a MakeArgs,
    scratch: PathBuf,
}

impl Drop for QuantFolder<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

impl<'a> QuantFolder<'a> {
    pub(super) fn new(args: &'a MakeArgs) -> Self {
        Self { args, scratch: std::env::temp_dir().join(format!("gguf-compare-{}", std::process::id())) }
    }

    /// The folder, made where it is not there.
    fn folder(&self) -> anyhow::Result<&Path> {
        let folder = self.args.keep.as_deref().unwrap_or(&self.scratch);
        fs::create_dir_all(folder).with_context(|| printable_path(folder).to_string())?;
        Ok(folder)
    }

    /// Opens the base. A checkpoint becomes a file that holds its own numbers.
    pub(super) fn base(&self, path: Option<&PathBuf>, catching: &Catching) -> anyhow::Result<Reader> {
        let Some(path) = path else { return model_args::embedded() };
        if !model_args::is_checkpoint(path) {
            return model_args::open(path);
        }
        let options = convert::Options { output_type: OutputType::Exact, ..convert::Options::default() };
        let conversion = Conversion::new(Folder::open(path)?, &options)?;
        let plan = conversion.plan(&[])?;
        let name = path.canonicalize().unwrap_or_else(|_| path.clone());
        let output = self.folder()?.join(name.file_name().unwrap_or("base".as_ref())).with_extension("gguf");
        write(&conversion, &plan, &output, 0, "converting", catching)?;
        Ok(Reader::open(&output)?)
    }

    /// Quantizes `base` to each type that is asked for. Returns the files.
    pub(super) fn quantize(&self, base: &Reader, threads: usize, catching: &Catching) -> anyhow::Result<Vec<PathBuf>> {
        let importance = self.args.imatrix.as_deref().map(|path| open_importance(path, &[], &[])).transpose()?;
        let source = GgufSource::new(base);
        let mut plans = Vec::new();
        for &ty in &self.args.types {
            let (importance, allow_requantize) = (importance.clone(), self.args.allow_requantize);
            let plan = Plan::new(&source, &Options { importance, allow_requantize, ..Options::new(ty) })?;
            plan.check_importance(&source).with_context(|| format!("{ty}: name an importance matrix (--imatrix)"))?;
            let output = self.folder()?.join(quantize::output_name(&named_model(base), ty.name()));
            outputs::check(&output, plan.shards, false)?;
            if let Some(line) = plan_report::fallbacks(&plan) {
                eprintln!("warning: {ty}: {line}");
            }
            plans.push((plan, output, ty));
        }
        if let Some((_, output, _)) = plans.first() {
            check_room(output, plans.iter().map(|(plan, ..)| plan.file_bytes).sum())?;
        }
        for (plan, output, ty) in &plans {
            write(&source, plan, output, threads, ty.name(), catching)?;
        }
        Ok(plans.into_iter().map(|(_, output, _)| output).collect())
    }
}

fn write(
    source: &dyn quantize::Source,
    plan: &Plan,
    output: &Path,
    threads: usize,
    doing: &str,
    catching: &Catching,
) -> anyhow::Result<()> {
    let bar = progress::bytes(plan.tensor_bytes(), doing);
    let options = RunOptions { threads, ..RunOptions::default() };
    let progress_bar = |progress: Progress| {
        bar.set_position(progress.done);
        !catching.interrupted()
    };
    let outcome = quantize::run(source, plan, output, &options, &progress_bar);
    bar.finish_and_clear();
    outcome?;
    Ok(())
}
