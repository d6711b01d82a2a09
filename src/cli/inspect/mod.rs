//! `gguf inspect`: metadata, tensors and totals of models, without reading their data.

mod json;
mod text;

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use gguf::gguf::Reader;
use gguf::printable::{printable, printable_path};

use crate::model_args;

/// Shows what is inside GGUF files. Only headers are read, so that a model of any size is shown at once.
///
/// A split model (NAME-00001-of-00003.gguf ...) is shown as one, by the path of any of its files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf inspect                                      # the embedded model
  gguf inspect model.gguf
  gguf inspect model.gguf --tensors | grep attn_v
  gguf inspect model.gguf --key tokenizer.chat_template
  gguf inspect *.gguf --json | jq '.[] | {path, bits_per_weight}'")]
pub(crate) struct Args {
    /// GGUF files (default: the embedded model)
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Show the metadata only
    #[arg(long, short)]
    metadata: bool,
    /// Show the tensors only
    #[arg(long, short)]
    tensors: bool,
    /// Show long texts and arrays whole
    #[arg(long)]
    full: bool,
    /// Show the value of one key only, whole, arrays with an element a line
    #[arg(long, value_name = "KEY", conflicts_with_all = ["metadata", "tensors", "full", "json"])]
    key: Option<String>,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// What of a model is shown.
#[derive(Clone, Copy, Debug)]
struct Sections {
    metadata: bool,
    tensors: bool,
    full: bool,
}

impl Args {
    const fn sections(&self) -> Sections {
        let all = self.metadata == self.tensors;
        Sections { metadata: all || self.metadata, tensors: all || self.tensors, full: self.full }
    }
}

/// Runs the command. A model that cannot be opened does not keep the others from being shown.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut seen = HashSet::new();
    let mut models = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for (number, reader) in readers(&args.models).enumerate() {
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                out.flush()?;
                crate::tell(&error);
                code = crate::FAILURE.into();
                continue;
            }
        };
        // A further shard of a model leads to the whole of it again.
        if number > 0 && reader.file_ids().iter().all(|id| seen.contains(id)) {
            continue;
        }
        seen.extend(reader.file_ids());
        for warning in reader.warnings() {
            eprintln!("warning: {}: {warning}", printable_path(reader.path()));
        }
        if args.json {
            models.push(json::model(&reader, args.sections()));
        } else if let Some(key) = &args.key {
            write_key(&mut out, &reader, key)?;
        } else {
            if number > 0 {
                writeln!(out)?;
            }
            text::write_model(&mut out, &reader, args.sections())?;
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut out, &models).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(code)
}

/// The models at `paths`, or the embedded one.
fn readers(paths: &[PathBuf]) -> impl Iterator<Item = anyhow::Result<Reader>> {
    let embedded = paths.is_empty().then(model_args::embedded);
    embedded.into_iter().chain(paths.iter().map(|path| Ok(Reader::open(path)?)))
}

fn write_key(out: &mut impl Write, reader: &Reader, key: &str) -> anyhow::Result<()> {
    let value = reader.metadata().get(key);
    let missing = || format!("{}: key {} is not there", printable_path(reader.path()), printable(key));
    Ok(text::write_value(out, value.with_context(missing)?)?)
}
