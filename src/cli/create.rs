//! `gguf create` and `gguf cp`: models made of others, without a copy of their weights where the disk allows it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::modelfile::{self, Base, Created, Modelfile, Request, Status};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::FileType;
use gguf_toolkit::stores::{BlobStore, Error, Fetched, Located, ModelName, Places, Roots, Store, StoreError};
use serde_json::{Value as Json, json};

use crate::{model_args, progress, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// Makes a model by a recipe (Modelfile): a name for a model with its own template, system prompt, settings, messages and adapters.
///
/// The model lands in Ollama's store, where Ollama finds it too. Nothing is copied where the disk can share it: a manifest
/// names the blobs of the model that it is made from; a file of your own becomes a blob that shares its bytes (reflink, else hard link).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf create brief                                          # by the recipe in Modelfile
  gguf create small -f Modelfile -q Q4_K_M                   # quantized on the way
  gguf create brief -f - < Modelfile && gguf show brief")]
pub(crate) struct Args {
    /// Its name: MODEL[:TAG]
    #[arg(value_name = "NAME")]
    name: String,
    /// The recipe; - for standard input
    #[arg(long, short, value_name = "FILE", default_value = "Modelfile")]
    file: PathBuf,
    /// Quantize the model to this type
    #[arg(long, short, value_name = "TYPE", value_parser = parse_type)]
    quantize: Option<FileType>,
    /// Take the name from a model that another program has put into its store
    #[arg(long)]
    force: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Only errors on standard error: no remarks, no progress
    // As the option of all commands, without its letter, which Ollama's users know as --quantize.
    #[arg(long, id = "quiet")]
    _quiet: bool,
}

/// Gives a model a further name. Its bytes stay where they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf cp llama3.2:1b mine
  gguf cp bartowski/Llama-3.2-1B-Instruct-GGUF llama         # from Hugging Face's cache, for Ollama too")]
pub(crate) struct CopyArgs {
    /// The model: a name that gguf list shows, or a file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// The further name: MODEL[:TAG]
    #[arg(value_name = "NAME")]
    name: String,
    /// Take the name from a model that another program has put into its store
    #[arg(long)]
    force: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

fn parse_type(text: &str) -> Result<FileType, String> {
    let ty = FileType::from_name(text).filter(|ty| ty.is_writable());
    ty.ok_or_else(|| "no such type; `gguf quantize --list` shows all".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = model_args::read_text(&args.file)?;
    let shown = printable_path(&args.file).to_string();
    let recipe = Modelfile::parse(&text).with_context(|| shown.clone())?;
    for left_out in &recipe.left_out {
        eprintln!("{shown}: {} is left out", printable(left_out));
    }
    let folder = args.file.parent().filter(|_| args.file != Path::new("-")).unwrap_or(Path::new(""));
    let [from] = recipe.from.as_slice() else {
        bail!("{shown}: FROM is given {} times; models that see or hear are not made here", recipe.from.len())
    };
    let adapters = recipe.adapters.iter().map(|path| Base::File(folder.join(path))).collect();
    let request = Request {
        name: model_name(&args.name)?,
        base: base(folder, from)?,
        adapters,
        additions: recipe.additions,
        quantize: args.quantize,
    };
    let store = own_store(args.force)?;
    let display = Display::new();
    let made = modelfile::create(&store, &request, &|status| display.show(&status));
    display.end();
    note(&store, &made.map_err(with_advice)?, args.json)
}

/// What can be done about an error; the library knows no options.
fn with_advice(error: modelfile::Error) -> anyhow::Error {
    match &error {
        modelfile::Error::Store(StoreError::Foreign { .. }) => anyhow::anyhow!("{error} (--force takes it)"),
        _ => error.into(),
    }
}

pub(crate) fn copy(args: &CopyArgs) -> anyhow::Result<ExitCode> {
    let name = model_name(&args.name)?;
    let located = model_args::locate(&args.model)?;
    let display = Display::new();
    let copied = modelfile::copy(&own_store(args.force)?, &located, &name, &|status| display.show(&status));
    display.end();
    let (store, made) = copied.map_err(with_advice)?;
    if !args.json {
        eprintln!("copied {} to {}", printable(&located.name), printable(&made.name));
    }
    note(&store, &made, args.json)
}

/// The name of a model that is made.
fn model_name(name: &str) -> anyhow::Result<ModelName> {
    ModelName::parse(name)
        .with_context(|| format!("{}: not the name of a model (MODEL[:TAG])", printable(name).limit(200)))
}

/// The store that models are made in.
pub(crate) fn own_store(force: bool) -> anyhow::Result<BlobStore> {
    let roots = Roots::from_variables(&|name| std::env::var_os(name).filter(|value| !value.is_empty()));
    let root = roots.ollama.context("no folder for models: OLLAMA_MODELS names one")?;
    let store = BlobStore::at(root);
    Ok(if force { store } else { store.protecting(Fetched::from_environment()) })
}

/// What `FROM` means: a file or a checkpoint's folder, from the recipe's folder on, or else a name, which is fetched where it is
/// not on this machine.
fn base(folder: &Path, from: &str) -> anyhow::Result<Base> {
    let path = folder.join(from);
    if path.is_file() {
        return Ok(Base::File(path));
    }
    if path.is_dir() && model_args::is_checkpoint(&path) {
        return Ok(Base::Checkpoint(path));
    }
    match Places::from_environment().resolve(if path.is_dir() { path.to_str().unwrap_or(from) } else { from }) {
        Ok(Located { store: Store::Path, path, .. }) => Ok(Base::File(path)),
        Ok(located) => Ok(Base::Model(Box::new(located))),
        Err(Error::Checkpoint { path }) => Ok(Base::Checkpoint(path)),
        #[cfg(feature = "net")]
        Err(Error::NotFound { .. }) if !from.to_lowercase().ends_with(".gguf") => {
            let fetched = crate::pull::pull_usual(from)?;
            Ok(Base::Model(Box::new(Places::from_environment().find(&fetched)?)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Notes that a model is ours, and says what was made.
fn note(store: &BlobStore, made: &Created, as_json: bool) -> anyhow::Result<ExitCode> {
    if let Err(error) = Fetched::from_environment().add(&made.new_files(store)) {
        eprintln!("warning: gguf rm will ask for --force, the list of what gguf has made cannot be written: {error}");
    }
    if as_json {
        model_args::print(&format!("{:#}\n", object(made)))?;
    } else {
        let (all, new) = (units::bytes(made.bytes()), units::bytes(made.new_bytes()));
        eprintln!("{}: {all}, of which {new} are new on the disk", printable(&made.name));
    }
    Ok(ExitCode::SUCCESS)
}

fn object(made: &Created) -> Json {
    let layer = |layer: &modelfile::MadeLayer| {
        json!({
            "kind": layer.kind,
            "digest": layer.blob.digest.to_string(),
            "bytes": layer.blob.bytes,
            "how": layer.blob.origin.describe(),
            "takes_room": layer.blob.origin.takes_room(),
        })
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": made.name,
        "id": made.digest.digits(),
        "manifest": made.manifest.to_string_lossy(),
        "bytes": made.bytes(),
        "new_bytes": made.new_bytes(),
        "layers": made.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// What is being done, on standard error.
struct Display {
    bar: indicatif::ProgressBar,
}

impl Display {
    fn new() -> Self {
        Self { bar: progress::bytes(0, "") }
    }

    fn show(&self, status: &Status<'_>) -> bool {
        match status {
            Status::Reading | Status::Writing => {}
            Status::Quantizing { from, to, progress } => {
                self.bar.set_message(format!("{from} to {to}"));
                self.bar.set_length(progress.total);
                self.bar.set_position(progress.done);
            }
            Status::Layer(layer) => {
                let (kind, size) = (printable(&layer.kind).to_string(), units::bytes(layer.blob.bytes));
                let (digest, how) = (layer.blob.digest.short(), layer.blob.origin.describe());
                self.bar.suspend(|| eprintln!("{kind:<9} {digest}  {size:>10}  {how}"));
            }
        }
        true
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
