//! `gguf rm` and `gguf prune`: models, and what interrupted fetches have left, go.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::stores::{Fetched, Places, Removal, Store};
use serde_json::{Value as Json, json};

use crate::{model_args, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// Removes models by their names. Those that another program has put into its store, and files of your own, only with
/// --force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf rm bartowski/Llama-3.2-1B-Instruct-GGUF:Q8_0 --dry-run
  gguf rm llama3.2:1b --force                                # also what Ollama itself has fetched")]
pub(crate) struct Args {
    /// Names that gguf list shows
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Also remove what gguf has not fetched itself
    #[arg(long)]
    force: bool,
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// Removes what nobody needs: what interrupted fetches have left (they would go on from there if they were started again), and
/// blobs that gguf has put into Ollama's store and that no model names.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf prune --dry-run
  gguf prune")]
pub(crate) struct PruneArgs {
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn remove(args: &Args) -> anyhow::Result<ExitCode> {
    let mut fetched = Fetched::from_environment();
    let places = Places::from_environment();
    // Nothing goes when one of the names is wrong.
    let mut removals = Vec::new();
    for name in &args.names {
        let located = places.resolve(name)?;
        if located.store == Store::Path {
            bail!("{}: a path; rm takes names that gguf list shows", printable(name));
        }
        let removal = Removal::of(&located, &fetched);
        if removal.names.is_empty() {
            bail!("{}: nothing to remove", printable(name));
        }
        if !removal.is_ours && !args.force && !args.dry_run {
            let store = located.store.name();
            bail!("{}: gguf has not fetched it, it belongs to {store} (--force removes it)", printable(&located.name));
        }
        removals.push((located, removal));
    }
    let mut objects = Vec::new();
    for (located, planned) in removals {
        let name = &located.name;
        // Blobs that it shared with a model that is gone now are its own.
        let removal = if args.dry_run { planned } else { Removal::of(&located, &fetched) };
        let bytes = removal.bytes();
        let paths: Vec<PathBuf> = removal.names.iter().chain(&removal.blobs).cloned().collect();
        let shown: Vec<_> = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        objects.push(json!({
            "schema_version": SCHEMA_VERSION, "name": name, "files": shown, "bytes": bytes, "removed": !args.dry_run,
        }));
        if args.dry_run && !args.json {
            let text: String = paths.iter().map(|path| format!("{}\n", printable_path(path))).collect();
            model_args::print(&text)?;
            eprintln!("{}: {} would be free", printable(name), units::bytes(bytes));
        }
        if args.dry_run {
            continue;
        }
        removal.run().with_context(|| printable(name).to_string())?;
        fetched.remove(&paths).context("the list of what gguf has fetched")?;
        eprintln!("removed {}: {} free", printable(name), units::bytes(bytes));
    }
    if args.json {
        model_args::print(&format!("{:#}\n", Json::from(objects)))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn prune(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let (places, mut fetched) = (Places::from_environment(), Fetched::from_environment());
    let (unfinished, unused) = (places.unfinished(), places.unused_blobs(&fetched));
    let mut bytes = 0_u64;
    for (path, size) in unfinished.iter().chain(&unused) {
        if !args.json {
            model_args::print(&format!("{}\n", printable_path(path)))?;
        }
        if !args.dry_run {
            std::fs::remove_file(path).with_context(|| printable_path(path).to_string())?;
        }
        bytes = bytes.saturating_add(*size);
    }
    if !args.dry_run {
        let paths: Vec<PathBuf> = unused.iter().map(|(path, _)| path.clone()).collect();
        fetched.remove(&paths).context("the list of what gguf has fetched")?;
    }
    if args.json {
        let paths = |files: &[(PathBuf, u64)]| -> Vec<String> {
            files.iter().map(|(path, _)| path.to_string_lossy().into_owned()).collect()
        };
        let object = json!({
            "schema_version": SCHEMA_VERSION, "unfinished": paths(&unfinished), "unused": paths(&unused), "bytes": bytes,
            "removed": !args.dry_run,
        });
        model_args::print(&format!("{object:#}\n"))?;
    }
    let what = if args.dry_run { "would be free" } else { "free" };
    let files = |n: usize, kind: &str, one: &str| format!("{n} {kind} {one}{}", if n == 1 { "" } else { "s" });
    let blobs = if unused.is_empty() { String::new() } else { format!(", {}", files(unused.len(), "unused", "blob")) };
    eprintln!("{}{blobs}: {} {what}", files(unfinished.len(), "unfinished", "file"), units::bytes(bytes));
    Ok(ExitCode::SUCCESS)
}
