//! `gguf hash`: checksums of a model and its tensors, and whether they are those of a manifest.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::inspect::hash::{self, Algorithm, Checksum, Manifest, Outcome};
use gguf_toolkit::printable::{printable, printable_path};
use serde_json::{Value as Json, json};

use crate::pager::Output;
use crate::{model_args, progress};

/// Exit code when a checksum is another.
const DIFFERENT: u8 = 1;
/// Version of the object of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// Prints checksums of each tensor and of the model (SHA-256 unless others are chosen), as llama.cpp's gguf-hash does: over
/// the tensors' bytes alone, so that metadata may change. With --check, holds them against a list of such lines.
///
/// Exit codes with --check: 0 when everything is as the manifest says, 1 when something is not, 2 when it says nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf hash model.gguf
  gguf hash model.gguf --no-layer                  # of the model alone
  gguf hash model.gguf --all > sums.txt && gguf hash model.gguf --check sums.txt
  gguf hash model.gguf --uuid --json")]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// XXH64
    #[arg(long)]
    xxh64: bool,
    /// SHA-1
    #[arg(long)]
    sha1: bool,
    /// SHA-256
    #[arg(long)]
    sha256: bool,
    /// A UUID of version 5 for the model
    #[arg(long)]
    uuid: bool,
    /// XXH64, SHA-1 and SHA-256
    #[arg(long)]
    all: bool,
    /// Leave out those of the tensors
    #[arg(long)]
    no_layer: bool,
    /// Compare with the checksums in a file, by its most secure kind unless others are chosen
    #[arg(long, value_name = "MANIFEST")]
    check: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    fn algorithms(&self) -> Vec<Algorithm> {
        use Algorithm::{Sha1, Sha256, Uuid, Xxh64};
        let chosen =
            [(Xxh64, self.xxh64 || self.all), (Sha1, self.sha1 || self.all), (Sha256, self.sha256 || self.all)];
        chosen.into_iter().chain([(Uuid, self.uuid)]).filter(|(_, is)| *is).map(|(algorithm, _)| algorithm).collect()
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let reader = model_args::open(&args.model)?;
    let name = printable_path(&args.model).to_string();
    let manifest = args.check.as_ref().map(|path| manifest(path, &reader, &name)).transpose()?;
    let mut algorithms = args.algorithms();
    if algorithms.is_empty() {
        let preferred = [Algorithm::Sha256, Algorithm::Sha1, Algorithm::Xxh64, Algorithm::Uuid];
        let has = |one: &Algorithm| manifest.as_ref().is_none_or(|manifest| manifest.algorithms().contains(one));
        algorithms.extend(preferred.into_iter().find(has));
    }
    let tensors = !args.no_layer && manifest.as_ref().is_none_or(Manifest::has_tensors);
    let of_tensors = algorithms.iter().filter(|&&one| tensors && one != Algorithm::Uuid).count();
    let bytes: u64 = reader.tensors().iter().map(gguf_toolkit::gguf::TensorInfo::bytes).sum();
    let bar = progress::bytes(bytes * (algorithms.len() + of_tensors) as u64, "hashing");
    let checksums = hash::checksums(&reader, &algorithms, tensors, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    let found = ChecksumReport { name, checksums, manifest, reader: &reader, tensors };
    let mut out = Output::new();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &found.json()).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        found.write(&mut out)?;
    }
    out.finish()?;
    if let (Some(path), true) = (&args.check, found.says_nothing()) {
        anyhow::bail!("{}: no checksum of the chosen kind for this model", printable_path(path));
    }
    Ok(if found.agrees() { ExitCode::SUCCESS } else { DIFFERENT.into() })
}

fn manifest(path: &Path, reader: &Reader, name: &str) -> anyhow::Result<Manifest> {
    let names: Vec<&str> = reader.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    Manifest::parse(&model_args::read_text(path)?, name, &names).with_context(|| printable_path(path).to_string())
}

/// All checksums, and what a manifest says of them.
struct ChecksumReport<'a> {
    /// The model, as it was named.
    name: String,
    checksums: Vec<Checksum>,
    manifest: Option<Manifest>,
    reader: &'a Reader,
    /// Whether there are checksums of tensors.
    tensors: bool,
}

impl ChecksumReport<'_> {
    fn outcome(&self, checksum: &Checksum) -> Option<Outcome> {
        self.manifest.as_ref().map(|manifest| manifest.check(checksum))
    }

    /// Whether the manifest has none of the checksums.
    fn says_nothing(&self) -> bool {
        self.checksums.iter().all(|checksum| self.outcome(checksum) == Some(Outcome::NotFound))
    }

    /// Tensors of the manifest that the model lacks.
    fn missing(&self) -> Vec<&str> {
        let names: Vec<&str> = self.reader.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        let missing = self.manifest.iter().filter(|_| self.tensors).flat_map(|manifest| manifest.missing(&names));
        missing.collect()
    }

    /// Whether nothing contradicts the manifest. One that has the model alone, or tensors alone, is enough.
    fn agrees(&self) -> bool {
        let mismatch = |checksum: &Checksum| self.outcome(checksum) == Some(Outcome::Mismatch);
        let unlisted = |checksum: &Checksum| {
            let lists = self.manifest.as_ref().is_some_and(Manifest::has_tensors);
            lists && checksum.tensor.is_some() && self.outcome(checksum) == Some(Outcome::NotFound)
        };
        let bad = |checksum: &Checksum| mismatch(checksum) || unlisted(checksum);
        !self.checksums.iter().any(bad) && self.missing().is_empty()
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for checksum in &self.checksums {
            let tensor = checksum.tensor.as_ref().map_or_else(String::new, |tensor| format!(":{}", printable(tensor)));
            let outcome = self.outcome(checksum).map_or_else(String::new, |outcome| format!("  -  {}", outcome.name()));
            writeln!(out, "{:<8}  {}  {}{tensor}{outcome}", checksum.algorithm.name(), checksum.text, self.name)?;
        }
        for tensor in self.missing() {
            writeln!(out, "{}:{}  -  in the manifest alone", self.name, printable(tensor))?;
        }
        Ok(())
    }

    fn json(&self) -> Json {
        let checksum = |checksum: &Checksum| {
            let mut object =
                json!({ "algorithm": checksum.algorithm.name(), "tensor": checksum.tensor, "checksum": checksum.text });
            if let Some(outcome) = self.outcome(checksum) {
                object["outcome"] = match outcome {
                    Outcome::Ok => "ok",
                    Outcome::Mismatch => "mismatch",
                    Outcome::NotFound => "not_found",
                }
                .into();
            }
            object
        };
        let mut object = json!({
            "schema_version": SCHEMA_VERSION,
            "path": self.reader.path().to_string_lossy(),
            "checksums": self.checksums.iter().map(checksum).collect::<Vec<_>>(),
        });
        if self.manifest.is_some() {
            object["agrees"] = (self.agrees() && !self.says_nothing()).into();
            object["missing"] = self.missing().into();
        }
        object
    }
}
