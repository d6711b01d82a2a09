//! `gguf demo`: the whole way of a checkpoint before the user's eyes, with the embedded model.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use gguf_toolkit::convert::{Conversion, Options, OutputType};
use gguf_toolkit::gguf::{Reader, TensorInfo};
use gguf_toolkit::perplexity;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::{self, FileType, GgufSource, Plan, RunOptions};

use crate::chat;
use crate::model_args::{RunArgs, print};
use crate::outputs;
use crate::perplexity::{default_text, measure, table};
use crate::units;

/// Takes the embedded model through every step: converts its checkpoint, shows what is inside, quantizes it, measures
/// each file, and ends in a chat (or in one story, where there is no terminal).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf demo
  gguf demo --keep storyteller                      # the files stay in this folder")]
pub(crate) struct Args {
    /// Keep the files in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long, short, requires = "keep")]
    force: bool,
    #[command(flatten)]
    run: RunArgs,
}

/// What the embedded checkpoint is quantized to.
const TYPES: [FileType; 3] = [FileType::Q8_0, FileType::Q5_K_M, FileType::Q4_K_M];

/// A folder that vanishes with the value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let scratch = Scratch(std::env::temp_dir().join(format!("gguf-demo-{}", std::process::id())));
    let folder = args.keep.as_deref().unwrap_or(&scratch.0);
    fs::create_dir_all(folder).with_context(|| printable_path(folder).to_string())?;
    for ty in std::iter::once(FileType::F16).chain(TYPES) {
        outputs::check(&path(folder, ty), 1, args.force)?;
    }
    let f16 = convert(folder)?;
    inspect(&f16)?;
    let mut files = vec![f16];
    for ty in TYPES {
        let file = quantize(&files[0], folder, ty)?;
        files.push(file);
    }
    step("perplexity", "each file on a text that the model has not seen (lower is better)")?;
    let pool = args.run.pool()?;
    let text = default_text()?;
    let options = perplexity::Options { kv_type: args.run.kv_type, ..perplexity::Options::default() };
    let mut measured = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        measured.push(measure(&Reader::open(file)?, &name, &pool, &args.run, &text, &options)?);
    }
    table(&measured)?;
    if let Some(folder) = &args.keep {
        print(&format!("\nThe files are in {}.\n", printable_path(folder)))?;
    }
    step("chat", "with the smallest of them")?;
    let last = &files[files.len() - 1];
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        print("Try: Tell me a story about a dog.\n\n")?;
        return chat::with(last, &args.run, None);
    }
    chat::with(last, &args.run, Some("Tell me a story about a dog."))
}

fn step(command: &str, what: &str) -> anyhow::Result<()> {
    print(&format!("\n== gguf {command}: {what}\n"))
}

/// Where the file of a type goes.
fn path(folder: &Path, ty: FileType) -> PathBuf {
    folder.join(format!("storyteller-{}.gguf", ty.name().to_lowercase()))
}

#[cfg(feature = "embedded")]
fn convert(folder: &Path) -> anyhow::Result<PathBuf> {
    step("convert", "the embedded checkpoint (safetensors) to a GGUF file")?;
    let start = Instant::now();
    let options = Options { output_type: OutputType::F16, ..Options::default() };
    let conversion = Conversion::new(gguf_toolkit::embedded::storyteller(), &options)?;
    let path = path(folder, FileType::F16);
    let options = RunOptions { force: true, ..RunOptions::default() };
    let bytes = conversion.write(&conversion.plan(&[])?, &path, &options, &|_| true)?.file_bytes;
    report_file(&path, bytes, start)?;
    Ok(path)
}

/// There is no checkpoint in this build.
#[cfg(not(feature = "embedded"))]
fn convert(_folder: &Path) -> anyhow::Result<PathBuf> {
    anyhow::bail!("this build has no embedded model")
}

fn inspect(path: &Path) -> anyhow::Result<()> {
    step("inspect", "what is inside")?;
    let reader = Reader::open(path)?;
    for key in
        ["general.architecture", "general.name", "llama.block_count", "llama.embedding_length", "llama.context_length"]
    {
        if let Some(value) = reader.metadata().get(key) {
            let value = value.as_str().map_or_else(|| value.as_u64().unwrap_or(0).to_string(), str::to_owned);
            print(&format!("{key:<24} {}\n", printable(&value)))?;
        }
    }
    let bytes: u64 = reader.tensors().iter().map(TensorInfo::bytes).sum();
    print(&format!(
        "{} keys, {} tensors, {} parameters, {}\n",
        reader.metadata().len(),
        reader.tensors().len(),
        units::count(reader.parameters()),
        units::bytes(bytes)
    ))
}

fn quantize(from: &Path, folder: &Path, ty: FileType) -> anyhow::Result<PathBuf> {
    if ty == TYPES[0] {
        step("quantize", "to smaller types")?;
    }
    let start = Instant::now();
    let reader = Reader::open(from)?;
    let source = GgufSource::new(&reader);
    let plan = Plan::new(&source, &quantize::Options::new(ty))?;
    let path = path(folder, ty);
    let options = RunOptions { force: true, ..RunOptions::default() };
    let bytes = quantize::run(&source, &plan, &path, &options, &|_| true)?.file_bytes;
    report_file(&path, bytes, start)?;
    Ok(path)
}

fn report_file(path: &Path, bytes: u64, start: Instant) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (size, milliseconds) = (units::bytes(bytes), start.elapsed().as_secs_f64() * 1e3);
    print(&format!("{name:<26} {size} in {milliseconds:.0} ms\n"))
}
