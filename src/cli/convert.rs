//! `gguf convert`: a Hugging Face folder to a GGUF file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use gguf::convert::{Conversion, Folder, Options, OutputType};
use gguf::printable::printable;
use gguf::quantize::{FileType, Plan};

use crate::model_args;
use crate::quantize::args::{TypeArgs, WriteArgs, possible_value};
use crate::quantize::carry_out::carry_out;

/// Converts a Hugging Face folder (config.json, tokenizer, *.safetensors) to a GGUF file.
///
/// Everything is checked before a weight is read: settings, tokenizer, and the name, shape and type of every tensor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf convert ./Llama-3.2-1B-Instruct
  gguf convert ./Llama-3.2-1B-Instruct -t f16 -o llama.gguf
  gguf convert ./Llama-3.2-1B-Instruct -t Q4_K_M        # quantized on the way, no file between
  gguf convert ./Llama-3.2-1B-Instruct --dry-run        # check and show the plan, write nothing
  gguf convert ./Llama-3.2-1B-Instruct -t Q4_K_M --tensor-type attn_v=q8_0 --stats")]
pub(crate) struct Args {
    /// Folder of the checkpoint
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// f32, f16, bf16, auto (that of the checkpoint), or a quantization (Q8_0, Q4_K_M ...)
    #[arg(
        long = "type",
        short = 't',
        value_name = "TYPE",
        default_value = "auto",
        value_parser = types(),
        ignore_case = true
    )]
    output_type: Type,
    /// Name of the model (default: what the folder tells)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Pre-tokenizer, where it is not recognized
    #[arg(long, value_name = "NAME", value_parser = model_args::pre_tokenizers(), hide_possible_values = true)]
    pre: Option<String>,
    /// Leave out the blocks that predict further tokens
    #[arg(long)]
    no_mtp: bool,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    types: TypeArgs,
}

#[derive(Clone, Copy, Debug)]
enum Type {
    Plain(OutputType),
    Quantized(FileType),
}

/// A parser of types that shells can complete and `--help` lists.
fn types() -> impl TypedValueParser<Value = Type> {
    let auto = PossibleValue::new("auto").help("F16 for a checkpoint that begins with it, else BF16");
    PossibleValuesParser::new(std::iter::once(auto).chain(FileType::ALL.iter().map(|ty| possible_value(*ty))))
        .try_map(|name| parse_type(&name).ok_or("no such type"))
}

fn parse_type(text: &str) -> Option<Type> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(Type::Plain(OutputType::Auto));
    }
    Some(match FileType::from_name(text)? {
        FileType::F32 => Type::Plain(OutputType::F32),
        FileType::F16 => Type::Plain(OutputType::F16),
        FileType::BF16 => Type::Plain(OutputType::BF16),
        quantized => Type::Quantized(quantized),
    })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (plain, quantized) = match args.output_type {
        Type::Plain(ty) => (ty, None),
        // What is quantized are the checkpoint's own numbers: the bytes are those of two steps with a file that holds them.
        Type::Quantized(ty) => (OutputType::Exact, Some(ty)),
    };
    let (name, pre) = (args.name.clone(), args.pre.clone());
    let options = Options { output_type: plain, name, no_mtp: args.no_mtp, pre };
    if let (None, Some(option)) = (quantized, args.types.for_quantizing()) {
        bail!("{option} needs a quantized type (-t Q4_K_M, say)");
    }
    let conversion = Conversion::new(Folder::open(&args.folder)?, &options)?;
    let plan = match quantized {
        None => conversion.plan(args.types.override_kv())?,
        Some(ty) => Plan::new(&conversion, &args.types.options(ty)?)?,
    };
    tell(&conversion);
    let output = args.write.output(|| default_output(&args.folder, &plan));
    carry_out(&conversion, &plan, &args.write, &output, "converting", conversion.checkpoint_bytes())
}

/// Says what of the checkpoint does not go into the file, or is not used.
fn tell(conversion: &Conversion) {
    let class = printable(conversion.class());
    match (conversion.is_text_part(), conversion.skipped()) {
        (true, 0) => {
            eprintln!("{class}: only its text part is converted; the folder has no tensors of images or sound")
        }
        (true, skipped) => eprintln!("{class}: only its text part is converted; {skipped} other tensors are left out"),
        (false, 0) => {}
        (false, skipped) => eprintln!("{skipped} tensors that are no part of the text model are left out"),
    }
    if conversion.predicting_left_out() > 0 {
        eprintln!("{} tensors that predict further tokens (MTP) are left out", conversion.predicting_left_out());
    }
    if conversion.predicting_blocks() > 0 {
        eprintln!(
            "{} blocks that predict further tokens (MTP) are kept, as the reference keeps them; they are not run \
             (--no-mtp leaves them out)",
            conversion.predicting_blocks()
        );
    }
    let listed = |texts: &[String], quote: &str| {
        let texts = texts.iter().map(|text| format!("{quote}{}{quote}", printable(text).limit(60)));
        texts.collect::<Vec<_>>().join(", ")
    };
    let ends = conversion.unnamed_ends();
    if !ends.is_empty() {
        eprintln!(
            "end tokens: a file has keys for three; the checkpoint also ends its answers with {}, the file does not",
            listed(ends, "`")
        );
    }
    let not_read = conversion.settings_not_read();
    if !not_read.is_empty() {
        eprintln!("config.json: not known, and not looked at: {}", listed(not_read, ""));
    }
}

/// `NAME-F16.gguf` in the working directory.
fn default_output(folder: &Path, plan: &Plan) -> PathBuf {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let id = plan.metadata.get("general.file_type").and_then(gguf::gguf::Value::as_u64);
    let ty = id.and_then(|id| FileType::from_id(id.try_into().ok()?));
    PathBuf::from(format!("{name}-{}.gguf", ty.map_or("F16", FileType::name)))
}
