//! `gguf convert`: a Hugging Face folder to a GGUF file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use gguf::convert::{Conversion, Folder, Options, OutputType};
use gguf::quantize::{self, FileType, Plan};

use crate::table::{Align, Table};
use crate::{progress, units};

/// Converts a Hugging Face folder (config.json, tokenizer, *.safetensors) to a GGUF file.
///
/// Everything is checked before a weight is read: settings, tokenizer, and the name, shape and type of every tensor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf convert ./Llama-3.2-1B-Instruct
  gguf convert ./Llama-3.2-1B-Instruct -t f16 -o llama.gguf
  gguf convert ./Llama-3.2-1B-Instruct -t Q4_K_M        # quantized on the way, no F16 file between
  gguf convert ./Llama-3.2-1B-Instruct --dry-run        # check and show the plan, write nothing")]
pub(crate) struct Args {
    /// Folder of the checkpoint
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// File to write (default: the folder's name, the type, .gguf)
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// f32, f16, bf16, auto (that of the checkpoint), or a quantization (Q8_0, Q4_K_M ...)
    #[arg(long = "type", short = 't', value_name = "TYPE", default_value = "auto", value_parser = parse_type)]
    output_type: Type,
    /// Name of the model (default: what the folder tells)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Pre-tokenizer, where it is not recognized
    #[arg(long, value_name = "NAME", value_parser = parse_pre)]
    pre: Option<String>,
    /// Check everything and show the plan, but write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace an existing output
    #[arg(long, short)]
    force: bool,
}

#[derive(Clone, Copy, Debug)]
enum Type {
    Plain(OutputType),
    Quantized(FileType),
}

fn parse_type(text: &str) -> Result<Type, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "auto" => Type::Plain(OutputType::Auto),
        "f32" => Type::Plain(OutputType::F32),
        "f16" => Type::Plain(OutputType::F16),
        "bf16" => Type::Plain(OutputType::BF16),
        _ => {
            Type::Quantized(FileType::from_name(text).ok_or("f32, f16, bf16, auto, or a quantization such as Q4_K_M")?)
        }
    })
}

fn parse_pre(text: &str) -> Result<String, String> {
    let mut names = gguf::tokenizer::pre_tokenizer_names();
    if names.any(|name| name == text) { Ok(text.to_owned()) } else { Err("not known".into()) }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let (plain, quantized) = match args.output_type {
        Type::Plain(ty) => (ty, None),
        Type::Quantized(ty) => (OutputType::F16, Some(ty)),
    };
    let options = Options { output_type: plain, name: args.name.clone(), pre: args.pre.clone() };
    let conversion = Conversion::new(Folder::open(&args.folder)?, &options)?;
    let plan = match quantized {
        None => conversion.plan()?,
        Some(ty) => Plan::new(&conversion, &quantize::Options::new(ty))?,
    };
    if conversion.skipped() > 0 {
        eprintln!(
            "{}: the text model is converted; {} other tensors are left out",
            conversion.class(),
            conversion.skipped()
        );
    }
    if args.dry_run {
        return show(&conversion, &plan);
    }
    let output = args.output.clone().unwrap_or_else(|| default_output(&args.folder, &plan));
    if output.is_dir() {
        bail!("{}: is a folder (-o names the file)", output.display());
    }
    let bar = progress::bytes(plan.tensor_bytes(), "converting");
    let bytes = conversion.write(&plan, &output, args.force, &|progress| {
        bar.set_position(progress.done);
        true
    })?;
    bar.finish_and_clear();
    eprintln!(
        "{}: {} tensors, {} in {:.1} s",
        output.display(),
        plan.tensors.len(),
        units::bytes(bytes),
        start.elapsed().as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

/// `NAME-F16.gguf` in the working directory.
fn default_output(folder: &Path, plan: &Plan) -> PathBuf {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let id = plan.metadata.get("general.file_type").and_then(gguf::gguf::Value::as_u64);
    let ty = FileType::ALL.iter().find(|ty| Some(u64::from(ty.id())) == id);
    PathBuf::from(format!("{name}-{}.gguf", ty.map_or("F16", |ty| ty.name())))
}

fn show(conversion: &Conversion, plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut table =
        Table::new([("tensor", Align::Left), ("shape", Align::Right), ("type", Align::Left), ("bytes", Align::Right)]);
    for tensor in &plan.tensors {
        let shape: Vec<String> = tensor.spec.shape.iter().map(u64::to_string).collect();
        table.row([
            tensor.spec.name.clone(),
            shape.join(" x "),
            tensor.spec.ty.to_string(),
            tensor.bytes().to_string(),
        ]);
    }
    let mut out = std::io::stdout().lock();
    table.write(&mut out)?;
    std::io::Write::write_fmt(
        &mut out,
        format_args!(
            "{}: {} of tensors -> {} tensors, {} parameters, {} bytes\n",
            conversion.class(),
            units::bytes(conversion.checkpoint_bytes()),
            plan.tensors.len(),
            units::count(plan.parameters()),
            plan.file_bytes
        ),
    )?;
    Ok(ExitCode::SUCCESS)
}
