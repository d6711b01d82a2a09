//! `gguf inspect`: what a model is, its metadata, tensors, tokens and numbers.

mod first_screen;
mod fit;
pub(crate) mod json;
pub(crate) mod text;
mod values;
mod vocab;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use gguf_toolkit::cpu::KvType;
use gguf_toolkit::gguf::{Reader, TensorInfo, Value, keys};
use gguf_toolkit::inspect as look;
use gguf_toolkit::printable::{printable, printable_path};
use regex::Regex;
use serde_json::Value as Json;

use crate::model_args;
use crate::pager::Output;

/// Shows what a GGUF file is: a summary of one screen, or with options its metadata, tensors, tokens and numbers.
///
/// Only headers are read (but for --values), so that a model of any size is shown at once. A split model
/// (NAME-00001-of-00003.gguf ...) is shown as one, by the path of any of its files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf inspect                                      # the embedded model
  gguf inspect model.gguf
  gguf inspect model.gguf --fit                     # does it fit here, how fast would it be
  gguf inspect model.gguf --fit --ctx 4096,32768 --kv-type f16,q8_0
  gguf inspect model.gguf --full                    # all metadata and tensors
  gguf inspect model.gguf --tensors attn_v          # the tensors whose names match
  gguf inspect model.gguf --values token_embd       # what their numbers look like
  gguf inspect model.gguf --vocab '^▁the'           # the tokens whose texts match
  gguf inspect model.gguf --template
  gguf inspect hf://bartowski/Llama-3.2-1B-Instruct-GGUF   # where it lies: only the header is fetched
  gguf inspect model.gguf --key general.name
  gguf inspect *.gguf --json | jq '.[] | {path, bits_per_weight}'")]
pub(crate) struct Args {
    /// Files, folders, names or addresses (default: the embedded model)
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Show the metadata
    #[arg(long, short)]
    metadata: bool,
    /// Show the tensors; with REGEX, those whose names match
    #[arg(long, short, value_name = "REGEX", num_args = 0..=1, default_missing_value = "")]
    tensors: Option<String>,
    /// Show everything, long texts and arrays whole
    #[arg(long)]
    full: bool,
    /// Show the chat template as it is
    #[arg(long, conflicts_with_all = ["metadata", "tensors", "full", "vocab", "values", "key", "json"])]
    template: bool,
    /// Show the tokens (id, kind, score, text); with REGEX, those whose texts match
    #[arg(
        long,
        value_name = "REGEX",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["metadata", "tensors", "full", "values", "key"]
    )]
    vocab: Option<String>,
    /// Show the range, mean, deviation, spread and outliers of the tensors whose names match
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["metadata", "tensors", "full", "key"])]
    values: Option<String>,
    /// Show the memory that it would take here, whether there is as much, and how fast it would be
    #[arg(long, conflicts_with_all = ["metadata", "tensors", "full", "vocab", "values", "key", "template"])]
    fit: bool,
    /// Contexts for --fit, in tokens (default: 4096, 32768 and the model's own)
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "fit", value_parser = model_args::parse_context)]
    ctx: Vec<usize>,
    /// Types of cached keys and values for --fit
    #[arg(
        long,
        value_name = "TYPE,...",
        value_delimiter = ',',
        requires = "fit",
        default_value = "f16",
        value_parser = model_args::parse_kv_type
    )]
    kv_type: Vec<KvType>,
    /// Also say whether the model can be run, and what of its file would not be read
    #[arg(long, short, conflicts_with_all = ["key", "json"])]
    verbose: bool,
    /// Show the value of one key only, whole, arrays with an element a line
    #[arg(long, value_name = "KEY", conflicts_with_all = ["metadata", "tensors", "full", "json"])]
    key: Option<String>,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// What of a model is shown.
#[derive(Clone, Debug)]
struct Sections {
    metadata: bool,
    tensors: bool,
    full: bool,
    /// Tensors that are shown.
    pattern: Regex,
}

/// What is asked for.
enum View {
    FirstScreen,
    Fit(fit::Question),
    Sections(Sections),
    Template,
    Vocabulary(Regex),
    Values(Regex),
    Key(String),
}

impl Args {
    /// The models and the view. An option's pattern that is a file's name is a model: `--tensors model.gguf`.
    fn parse(&self) -> anyhow::Result<(Vec<PathBuf>, View)> {
        let mut models = self.models.clone();
        let mut pattern = |given: &Option<String>| -> anyhow::Result<Option<Regex>> {
            let Some(given) = given.as_deref() else { return Ok(None) };
            let is_file = Path::new(given).is_file() || given.ends_with(".gguf");
            if is_file {
                models.insert(0, given.into());
            }
            vocab::pattern(if is_file { "" } else { given }).map(Some)
        };
        let (tensors, vocabulary) = (pattern(&self.tensors)?, pattern(&self.vocab)?);
        let all = self.metadata == tensors.is_some();
        let shows_sections = self.metadata || tensors.is_some() || self.full || self.json;
        let view = if let Some(key) = &self.key {
            View::Key(key.clone())
        } else if let Some(given) = &self.values {
            View::Values(vocab::pattern(given)?)
        } else if let Some(pattern) = vocabulary {
            View::Vocabulary(pattern)
        } else if self.fit {
            View::Fit(fit::Question { contexts: self.ctx.clone(), kv_types: self.kv_type.clone() })
        } else if self.template {
            View::Template
        } else if shows_sections {
            View::Sections(Sections {
                metadata: all || self.metadata,
                tensors: all || tensors.is_some(),
                full: self.full,
                pattern: tensors.map_or_else(|| vocab::pattern(""), Ok)?,
            })
        } else {
            View::FirstScreen
        };
        Ok((models, view))
    }
}

/// Runs the command. A model that cannot be opened does not keep the others from being shown.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = Output::new();
    let mut seen = HashSet::new();
    let mut objects = Vec::new();
    let mut code = ExitCode::SUCCESS;
    let (models, view) = args.parse()?;
    let many = models.len() > 1;
    for (number, reader) in readers(&models).enumerate() {
        let reader = match reader {
            Ok(reader) => reader,
            Err(error) => {
                out.flush()?;
                crate::print_error(&error);
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
            objects.push(object(&reader, &view)?);
            continue;
        }
        if number > 0 && matches!(view, View::FirstScreen | View::Sections(_) | View::Fit(_)) {
            writeln!(out)?;
        }
        show(&mut out, &reader, &view, many)?;
        if args.verbose {
            text::write_run(&mut out, &reader)?;
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut out, &objects).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    out.finish()?;
    Ok(code)
}

fn show(out: &mut impl Write, reader: &Reader, view: &View, many: bool) -> anyhow::Result<()> {
    match view {
        View::FirstScreen => Ok(first_screen::write(out, reader, !many)?),
        View::Fit(question) => fit::write(out, reader, question),
        View::Sections(sections) => Ok(text::write_model(out, reader, sections)?),
        View::Template => write_key(out, reader, keys::TOKENIZER_CHAT_TEMPLATE),
        View::Key(key) => write_key(out, reader, key),
        View::Vocabulary(pattern) => {
            vocab::write(out, reader.metadata(), pattern).with_context(|| printable_path(reader.path()).to_string())
        }
        View::Values(pattern) => {
            for tensor in matching(reader, pattern)? {
                values::write(out, tensor, &numbers(reader, tensor)?)?;
            }
            Ok(())
        }
    }
}

fn object(reader: &Reader, view: &View) -> anyhow::Result<Json> {
    let none = Sections { metadata: false, tensors: false, full: false, pattern: vocab::pattern("")? };
    let mut object = json::model(reader, if let View::Sections(sections) = view { sections } else { &none });
    match view {
        View::Vocabulary(pattern) => object["vocabulary"] = vocab::json(reader.metadata(), pattern)?,
        View::Fit(question) => object["fit"] = fit::json(reader, question)?,
        View::Values(pattern) => {
            let tensors = matching(reader, pattern)?;
            let one =
                |tensor: &&TensorInfo| -> anyhow::Result<Json> { Ok(values::json(tensor, &numbers(reader, tensor)?)) };
            object["values"] = tensors.iter().map(one).collect::<anyhow::Result<Json>>()?;
        }
        _ => {}
    }
    Ok(object)
}

/// The tensors whose names match.
fn matching<'a>(reader: &'a Reader, pattern: &Regex) -> anyhow::Result<Vec<&'a TensorInfo>> {
    let tensors: Vec<&TensorInfo> = reader.tensors().iter().filter(|tensor| pattern.is_match(&tensor.name)).collect();
    let path = printable_path(reader.path());
    anyhow::ensure!(!tensors.is_empty(), "{path}: no tensor matches {}", printable(pattern.as_str()));
    Ok(tensors)
}

fn numbers(reader: &Reader, tensor: &TensorInfo) -> anyhow::Result<look::Values> {
    let place = || format!("{}: tensor {}", printable_path(reader.path()), printable(&tensor.name));
    look::values(reader, tensor).with_context(place)
}

/// The models at `paths`, or the embedded one.
fn readers(paths: &[PathBuf]) -> impl Iterator<Item = anyhow::Result<Reader>> {
    let embedded = paths.is_empty().then(model_args::embedded);
    embedded.into_iter().chain(paths.iter().map(|path| model_args::open_any(path)))
}

fn write_key(out: &mut impl Write, reader: &Reader, key: &str) -> anyhow::Result<()> {
    let value: Option<&Value> = reader.metadata().get(key);
    let missing = || format!("{}: there is no key {}", printable_path(reader.path()), printable(key));
    Ok(text::write_value(out, value.with_context(missing)?)?)
}
