//! `gguf convert`: a Hugging Face folder to a GGUF file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::builder::PossibleValue;
use gguf_toolkit::TensorType;
use gguf_toolkit::convert::{AdapterConversion, Conversion, Folder, Options, OutputType};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::{FileType, Plan};
use gguf_toolkit::stores::{self, Places};

use crate::model_args;
use crate::pager::Output;
use crate::quantize::args::{TypeArgs, WriteArgs, list_recipes, mix_name};
use crate::quantize::carry_out::carry_out;
use crate::quantize::types::{self, TypeParser, possible_value};
use crate::table::{Column, Table};
use crate::units;

/// Converts a Hugging Face folder (config.json, tokenizer, *.safetensors) to a GGUF file.
///
/// Everything is checked before a weight is read: settings, tokenizer, and the name, shape and type of every tensor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf convert ./Llama-3.2-1B-Instruct
  gguf convert ./Llama-3.2-1B-Instruct -t f16 -o llama.gguf
  gguf convert ./Llama-3.2-1B-Instruct -t Q4_K_M        # quantized on the way, no file between
  gguf convert ./Llama-3.2-1B-Instruct --dry-run        # check and show the plan, write nothing
  gguf convert ./Llama-3.2-1B-Instruct --recipe XL      # a mix of more types (--list-recipes)
  gguf convert ./Llama-3.2-1B-Instruct -t Q4_K_M --tensor-type attn_v=q8_0 --stats
  gguf convert ./my-adapter --base model.gguf -o adapter.gguf   # LoRA, for --lora")]
pub(crate) struct Args {
    /// Folder of the checkpoint
    #[arg(value_name = "DIR", required_unless_present_any = ["list", "list_types", "list_recipes"])]
    folder: Option<PathBuf>,
    /// f32, f16, bf16, auto (that of the checkpoint), or a quantization (Q8_0, Q4_K_M ...)
    #[arg(
        long = "type",
        short = 't',
        alias = "outtype",
        value_name = "TYPE",
        default_value = "auto",
        value_parser = types()
    )]
    output_type: Type,
    /// Name of the model (default: what the folder tells)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Pre-tokenizer, where it is not recognized
    #[arg(long, value_name = "NAME", value_parser = model_args::pre_tokenizers(), hide_possible_values = true)]
    pre: Option<String>,
    /// GGUF file of the model that an adapter changes (DIR is then what PEFT saved)
    #[arg(long, value_name = "MODEL")]
    base: Option<PathBuf>,
    /// Leave out the blocks that predict further tokens
    #[arg(long)]
    no_mtp: bool,
    #[command(flatten)]
    write: WriteArgs,
    /// Show the architectures that are known, and the classes of checkpoints that become them
    #[arg(long)]
    list: bool,
    /// Show the quantized types, with the bits that a weight takes
    #[arg(long)]
    list_types: bool,
    #[command(flatten)]
    types: TypeArgs,
}

#[derive(Clone, Copy, Debug)]
enum Type {
    Plain(OutputType),
    Quantized(FileType),
}

/// A parser of types that shells can complete and `--help` lists.
fn types() -> TypeParser<Type> {
    TypeParser::new(parse_type, || {
        let auto = PossibleValue::new("auto").help("F16 for a checkpoint that begins with it, else BF16");
        std::iter::once(auto).chain(types::writable().map(possible_value)).collect()
    })
}

fn parse_type(text: &str) -> Option<Type> {
    if text.eq_ignore_ascii_case("auto") {
        return Some(Type::Plain(OutputType::Auto));
    }
    Some(match types::find(text)? {
        FileType::F32 => Type::Plain(OutputType::F32),
        FileType::F16 => Type::Plain(OutputType::F16),
        FileType::BF16 => Type::Plain(OutputType::BF16),
        quantized => Type::Quantized(quantized),
    })
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        let mut table = Table::new([Column::names("architecture"), Column::texts("classes in config.json")]);
        for (name, classes) in gguf_toolkit::arch::known() {
            table.row([name.to_owned(), classes.join(", ")]);
        }
        let mut out = Output::new();
        table.write(&mut out)?;
        out.finish()?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.list_types {
        return crate::quantize::list_types();
    }
    if args.types.list_recipes {
        list_recipes()?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = &checkpoint(args.folder.as_deref().context("no folder")?);
    let (plain, quantized) = match args.output_type {
        Type::Plain(OutputType::Auto) if args.types.report_types() => (OutputType::Exact, None),
        Type::Plain(ty) => (ty, None),
        // What is quantized are the checkpoint's own numbers: the bytes are those of two steps with a file that holds them.
        Type::Quantized(ty) => (OutputType::Exact, Some(ty)),
    };
    if AdapterConversion::is_adapter(folder) {
        return adapter(args, folder);
    }
    if args.base.is_some() {
        bail!("--base is for adapters: {} has no adapter_config.json", printable_path(folder));
    }
    let (name, pre) = (args.name.clone(), args.pre.clone());
    let options = Options { output_type: plain, name, no_mtp: args.no_mtp, pre };
    let mixed = args.types.report_types();
    anyhow::ensure!(
        !mixed || matches!(plain, OutputType::Exact),
        "--like and --recipe say the types: -t can only be a quantized type, for what they leave open"
    );
    if let (None, false, Some(option)) = (quantized, mixed, args.types.for_quantizing()) {
        bail!("{option} needs a quantized type (-t Q4_K_M, say)");
    }
    let conversion = Conversion::new(Folder::open(folder)?, &options)?;
    let (plan, mix) = if quantized.is_none() && !mixed {
        (conversion.plan(args.types.override_kv())?, None)
    } else {
        let options = args.types.options(quantized)?;
        let plan = Plan::new(&conversion, &options)?;
        args.types.report_unused(&conversion, &options, &plan)?;
        (plan, Some(mix_name(&options)))
    };
    print_notes(&conversion);
    let output = args.write.output(|| default_output(folder, &plan, mix.as_deref()));
    carry_out(&conversion, &plan, &args.write, &output, "converting", conversion.checkpoint_bytes())
}

/// Converts an adapter (LoRA).
fn adapter(args: &Args, folder: &Path) -> anyhow::Result<ExitCode> {
    let ty = match args.output_type {
        Type::Plain(OutputType::F16) => TensorType::F16,
        Type::Plain(OutputType::BF16) => TensorType::BF16,
        Type::Plain(_) => TensorType::F32,
        Type::Quantized(_) => bail!("adapters are written as f32 (usual), f16 or bf16"),
    };
    let base = args.base.as_deref().with_context(|| {
        format!("{} is an adapter: --base MODEL.gguf names the model that it changes", printable_path(folder))
    })?;
    let adapter = AdapterConversion::new(folder, &model_args::open(base)?, ty)?;
    let name = folder_name(&folder.canonicalize().unwrap_or_else(|_| folder.to_owned()));
    let output = args.write.output(|| PathBuf::from(format!("{}-lora.gguf", name.unwrap_or_else(|| "model".into()))));
    if args.write.dry_run {
        model_args::print(&format!("{} tensors are changed\n", adapter.changed()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = adapter.write(&output, args.write.run_options().force)?;
    let (size, changed) = (units::bytes(bytes), adapter.changed());
    model_args::print(&format!("{}: {size}, {changed} tensors are changed\n", printable_path(&output)))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what of the checkpoint does not go into the file, or is not used.
fn print_notes(conversion: &Conversion) {
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
            "{} blocks that predict further tokens (MTP) are kept, as the reference keeps them; --mtp lets them \
             draft (--no-mtp leaves them out)",
            conversion.predicting_blocks()
        );
    }
    let listed = |texts: &[String], quote: &str| {
        let texts = texts.iter().map(|text| format!("{quote}{}{quote}", printable(text).limit(60)));
        texts.collect::<Vec<_>>().join(", ")
    };
    let no_rows = conversion.tokens_left_out();
    if !no_rows.is_empty() {
        let shown = listed(&no_rows[..no_rows.len().min(5)], "`");
        let more = if no_rows.len() > 5 { " ..." } else { "" };
        eprintln!("{} tokens for which the model has no row are left out: {shown}{more}", no_rows.len());
    }
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

/// The checkpoint that is meant: a folder, a repository's folder in Hugging Face's cache (`models--ORG--NAME`), or the
/// name of one there (`ORG/NAME`).
fn checkpoint(folder: &Path) -> PathBuf {
    let in_cache = || match Places::from_environment().resolve(folder.to_str()?) {
        Err(stores::Error::Checkpoint { path }) => Some(path),
        _ => None,
    };
    in_cache().unwrap_or_else(|| folder.to_owned())
}

/// The name of a model's folder; in Hugging Face's cache (`models--ORG--NAME/snapshots/HASH`) the model's, not the
/// snapshot's.
fn folder_name(full: &Path) -> Option<String> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let in_cache = full.parent().filter(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    let repository = in_cache
        .and_then(name)
        .and_then(|name| name.strip_prefix("models--").and_then(|rest| rest.rsplit("--").next().map(str::to_owned)));
    repository.or_else(|| name(full))
}

/// `NAME-F16.gguf` in the working directory.
fn default_output(folder: &Path, plan: &Plan, mix: Option<&str>) -> PathBuf {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = folder_name(&full).unwrap_or_else(|| "model".into());
    let ty = FileType::of(&plan.metadata);
    PathBuf::from(format!("{name}-{}.gguf", mix.unwrap_or(ty.map_or("F16", FileType::name))))
}
