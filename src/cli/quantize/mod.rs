//! `gguf quantize`: a model in a smaller type.

pub(crate) mod args;
pub(crate) mod carry_out;
mod error_report;
pub(crate) mod plan_report;
mod target;
mod trials;
pub(crate) mod types;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::gguf::{Reader, Value};
use gguf_toolkit::printable::printable;
use gguf_toolkit::quantize::{self, FileType, GgufSource, Plan};

use crate::model_args;
use crate::table::{Column, Table};
use args::{TypeArgs, WriteArgs};
use target::TargetArgs;

/// Quantizes a model: writes it once more, with weights of fewer bits.
///
/// The file is the one that llama-quantize writes, byte for byte. It appears under its name when it is complete and has
/// been read back; until then nothing of it is there, and an older file stays as it was.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "gguf quantize [OPTIONS] --type <TYPE> <MODEL>\n       \
                      gguf quantize <MODEL> [OUTPUT] <TYPE>\n       gguf quantize --list-types",
    after_help = "Examples:
  gguf quantize llama-F16.gguf -t Q4_K_M
  gguf quantize llama-F16.gguf -t Q4_K_M --dry-run      # which tensor becomes what, the file's size
  gguf quantize llama-F16.gguf -t Q4_K_M --stats        # what it costs, tensor by tensor
  gguf quantize llama-F16.gguf -t Q4_K_M --tensor-type 'blk\\.[0-3]\\.ffn_down=q6_k'
  gguf quantize llama-F16.gguf -t Q3_K_M --imatrix news.imatrix.gguf
  gguf quantize llama-F16.gguf --recipe XL              # a shipped mix, or a file of yours (--list-recipes)
  gguf quantize llama-F16.gguf --like q4_k_m.gguf -o like.gguf   # each tensor in the type that it has there
  gguf quantize llama-F16.gguf --target-size 600MB --imatrix news.imatrix.gguf --plan llama-600MB.recipe
  gguf quantize llama-F16.gguf --target-bpw 4.5 --imatrix news.imatrix.gguf --measure 5m --measure-text text.txt
  gguf quantize llama-F16-00001-of-00003.gguf -t Q8_0 --keep-split
  gguf quantize --list-types"
)]
pub(crate) struct Args {
    /// File (any shard of a split model), folder or name
    #[arg(value_name = "MODEL", required_unless_present_any = ["list_types", "list_recipes"])]
    model: Option<PathBuf>,
    /// Output, type and threads in the order of llama-quantize, in place of -o, -t and -j
    #[arg(value_name = "OUTPUT TYPE", num_args = 0..=3, hide = true)]
    rest: Vec<String>,
    /// What to quantize to: a name (in any case) or llama.cpp's number
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        value_parser = types::file_types()
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
    #[command(flatten)]
    target: TargetArgs,
    /// Quantize what is quantized already; that loses more than quantizing from F16 or F32
    #[arg(long, help_heading = "Types")]
    allow_requantize: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list_types {
        return list_types();
    }
    if args.types.list_recipes {
        args::list_recipes()?;
        return Ok(ExitCode::SUCCESS);
    }
    let model = args.model.as_deref().context("no model")?;
    let named = Positional::parse(args)?;
    let reader = model_args::open(model)?;
    let source = GgufSource::new(&reader);
    args.target.check()?;
    let target = args.target.target();
    // With a target, only what the file says of its mix.
    let file_type = named.file_type.or(target.map(|_| FileType::Q4_K_M));
    let mut options = args.types.options(file_type)?;
    options.allow_requantize = args.allow_requantize;
    options.keep_split = args.keep_split;
    let mut write = args.write.clone();
    write.set_threads(named.threads);
    let plan = match target {
        None => Plan::new(&source, &options)?,
        Some(target) => {
            let chosen = args.target.choose(&reader, &options, (target, named.file_type.is_some()), &write)?;
            options = chosen.options;
            chosen.plan
        }
    };
    args.types.report_unused(&source, &options, &plan)?;
    let default = || quantize::output_name(&named_model(&reader), &args::mix_name(&options));
    let output = named.output.unwrap_or_else(|| args.write.output(default));
    carry_out::carry_out(&source, &plan, &write, &output, "quantizing", reader.file_bytes())
}

/// What can also be given without options: `MODEL [OUTPUT] TYPE [THREADS]`, as llama-quantize takes it.
struct Positional {
    output: Option<PathBuf>,
    file_type: Option<FileType>,
    threads: Option<NonZeroUsize>,
}

impl Positional {
    fn parse(args: &Args) -> anyhow::Result<Self> {
        let mut rest: Vec<&str> = args.rest.iter().map(String::as_str).collect();
        if let Some(file_type) = args.file_type {
            anyhow::ensure!(rest.len() < 2, "{}: one too many (-t gives the type)", printable(rest[1]));
            return Ok(Self { output: output(args, rest.pop())?, file_type: Some(file_type), threads: None });
        }
        // A number at the end is the threads when a type stands before it.
        let threads = match rest[..] {
            [.., ty, last] if types::find(ty).is_some() => last.parse().ok(),
            _ => None,
        };
        if threads.is_some() {
            rest.pop();
        }
        if (args.types.report_types() || args.target.target().is_some())
            && rest.last().is_none_or(|last| types::find(last).is_none())
        {
            anyhow::ensure!(rest.len() < 2, "{}: one too many", printable(rest[0]));
            return Ok(Self { output: output(args, rest.pop())?, file_type: None, threads });
        }
        let Some(last) = rest.pop() else { bail!("no type: -t Q4_K_M is the usual choice (--list-types shows all)") };
        let file_type = types::find(last)
            .with_context(|| format!("{}: no such type (--list-types shows them)", printable(last)))?;
        anyhow::ensure!(rest.len() < 2, "{}: one too many", printable(rest[0]));
        Ok(Self { output: output(args, rest.pop())?, file_type: Some(file_type), threads })
    }
}

/// An output that is given without `-o`.
fn output(args: &Args, given: Option<&str>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(given) = given
        && args.write.has_output()
    {
        bail!("{}: the output is given twice", printable(given));
    }
    Ok(given.map(PathBuf::from))
}

/// The model's path; where that is a checksum (a blob of Ollama's), its own name. The embedded model's has no remark.
pub(crate) fn named_model(reader: &Reader) -> PathBuf {
    let path = reader.path();
    if path == Path::new(model_args::EMBEDDED) {
        return "storyteller.gguf".into();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_blob = name.strip_prefix("sha256-").is_some_and(|digits| digits.len() == 64);
    let own = reader.metadata().get("general.name").and_then(Value::as_str).filter(|_| is_blob);
    own.map_or_else(|| path.to_owned(), |own| PathBuf::from(own.replace(|c: char| c == '/' || c.is_control(), "-")))
}

/// Shows the types.
pub(crate) fn list_types() -> anyhow::Result<ExitCode> {
    let mut table = Table::new([
        Column::left("type"),
        Column::right("number").optional(2),
        Column::left("most tensors").optional(3),
        Column::right("their bits per weight").optional(1),
        Column::texts("what it is"),
    ]);
    for ty in types::writable() {
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
