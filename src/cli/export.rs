//! `gguf export`: a GGUF file back to a Hugging Face folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use gguf_toolkit::export::{Export, Options, WeightType};
use gguf_toolkit::files::{self, Overwrite};
use gguf_toolkit::printable::printable_path;

use crate::{model_args, progress, split, units};

/// Exports a GGUF file as a Hugging Face folder, which transformers, vLLM and SGLang load.
///
/// Quantized weights are decoded. The folder is converted back before a weight is written: what does not come back as it is
/// in the file is refused by its name, and no folder is left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf export llama-f16.gguf ./llama
  gguf export llama-f16.gguf ./llama-bf16 -t bf16
  gguf export llama-f16.gguf ./llama-parts --max-size 2G   # files of at most 2 GB
  gguf export llama-f16.gguf ./llama-2 --dry-run           # the class and the size, nothing is written

Then, say: vllm serve ./llama (docs/scaling.md)")]
pub(crate) struct Args {
    /// File, folder or name of the model
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder to write
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// f16, bf16 or f32 (default: that of the file's weights; f16 where they are quantized)
    #[arg(long = "type", short = 't', alias = "outtype", value_name = "TYPE", ignore_case = true)]
    weight_type: Option<TypeArg>,
    /// Largest file with weights (default: 5G)
    #[arg(long, value_name = "SIZE", value_parser = split::parse_size)]
    max_size: Option<u64>,
    /// Replace files of the same names in DIR
    #[arg(long, short)]
    force: bool,
    /// Show what would be written, and write nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// [`WeightType`], as options spell it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TypeArg {
    /// Half precision
    F16,
    /// bfloat16
    #[value(name = "bf16")]
    Bf16,
    /// Single precision
    F32,
}

impl From<TypeArg> for WeightType {
    fn from(ty: TypeArg) -> Self {
        match ty {
            TypeArg::F16 => Self::F16,
            TypeArg::Bf16 => Self::BF16,
            TypeArg::F32 => Self::F32,
        }
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reader = model_args::open(&args.model)?;
    let mut options = Options { weight_type: args.weight_type.map(WeightType::from), ..Options::default() };
    options.max_file_bytes = args.max_size.unwrap_or(options.max_file_bytes);
    let export = Export::new(&reader, &options)?;
    if !args.dry_run {
        let inputs = files::opened();
        let overwrite = if args.force { Overwrite::Replace { inputs: &inputs } } else { Overwrite::Refuse };
        let bar = progress::bytes(export.tensor_bytes(), "exporting");
        export.write(&args.folder, overwrite, &|done| {
            bar.set_position(done);
            true
        })?;
        bar.finish_and_clear();
    }
    let ty = match export.weight_type() {
        WeightType::F16 => "F16",
        WeightType::BF16 => "BF16",
        WeightType::F32 => "F32",
    };
    let files = match export.file_count() {
        1 => "one file".into(),
        count => format!("{count} files"),
    };
    if export.predicting_layers() > 0 {
        eprintln!("{} layers that predict further tokens (MTP) are left out", export.predicting_layers());
    }
    model_args::print(&format!(
        "{}: {}, {} tensors in {files}, {ty}, {}\n",
        printable_path(&args.folder),
        export.class(),
        export.tensor_count(),
        units::bytes(export.tensor_bytes()),
    ))?;
    Ok(ExitCode::SUCCESS)
}
