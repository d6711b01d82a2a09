//! `gguf quantize`: a model in a smaller type.

pub(crate) mod args;
pub(crate) mod carry_out;
mod error_report;
mod plan_report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use gguf::gguf::Reader;
use gguf::quantize::{self, FileType, GgufSource, Plan};

use crate::table::{Column, Table};
use args::{TypeArgs, WriteArgs};

/// Quantizes a model: writes it once more, with weights of fewer bits.
///
/// The file is the one that llama-quantize writes, byte for byte. It appears under its name when it is complete and has
/// been read back; until then nothing of it is there, and an older file stays as it was.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "gguf quantize [OPTIONS] --type <TYPE> <MODEL>",
    after_help = "Examples:
  gguf quantize llama-F16.gguf -t Q4_K_M
  gguf quantize llama-F16.gguf -t Q4_K_M --dry-run      # which tensor becomes what, the file's size
  gguf quantize llama-F16.gguf -t Q4_K_M --stats        # what it costs, tensor by tensor
  gguf quantize llama-F16.gguf -t Q4_K_M --tensor-type 'blk\\.[0-3]\\.ffn_down=q6_k'
  gguf quantize llama-F16-00001-of-00003.gguf -t Q8_0 --keep-split
  gguf quantize --list-types"
)]
pub(crate) struct Args {
    /// GGUF file, or any shard of a split model
    #[arg(value_name = "MODEL", required_unless_present = "list_types")]
    model: Option<PathBuf>,
    /// What to quantize to: a name (in any case) or llama.cpp's number
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        required_unless_present = "list_types",
        value_parser = args::file_types(),
        ignore_case = true
    )]
    file_type: Option<FileType>,
    /// Write as many files as the model has, with the same tensors in each
    #[arg(long)]
    keep_split: bool,
    #[command(flatten)]
    write: WriteArgs,
    /// Show the types, with the bits that a weight takes
    #[arg(long)]
    list_types: bool,
    #[command(flatten)]
    types: TypeArgs,
    /// Quantize what is quantized already; that loses more than quantizing from F16 or F32
    #[arg(long, help_heading = "Types")]
    allow_requantize: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list_types {
        return list_types();
    }
    let model = args.model.as_deref().context("no model")?;
    let file_type = args.file_type.context("no type")?;
    let reader = Reader::open(model)?;
    let source = GgufSource::new(&reader);
    let mut options = args.types.options(file_type)?;
    options.allow_requantize = args.allow_requantize;
    options.keep_split = args.keep_split;
    let plan = Plan::new(&source, &options)?;
    let output = args.write.output(|| quantize::output_name(model, file_type));
    carry_out::carry_out(&source, &plan, &args.write, &output, "quantizing", reader.file_bytes())
}

fn list_types() -> anyhow::Result<ExitCode> {
    let mut table = Table::new([
        Column::left("type"),
        Column::right("number").optional(2),
        Column::left("most tensors").optional(3),
        Column::right("their bits per weight").optional(1),
        Column::texts("what it is"),
    ]);
    for ty in FileType::ALL {
        table.row([
            ty.name().to_owned(),
            ty.id().to_string(),
            ty.default_type().to_string(),
            format!("{:.2}", ty.default_bits()),
            ty.description().to_owned(),
        ]);
    }
    table.write(&mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
