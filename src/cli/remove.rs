//! `gguf rm` and `gguf prune`: models, and what interrupted fetches have left, go.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::stores::{Fetched, Places, Removal, Store};

use crate::{model_args, units};

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
}

/// Removes what interrupted fetches have left. They would go on from there if they were started again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf prune --dry-run
  gguf prune")]
pub(crate) struct PruneArgs {
    /// Only show what would go
    #[arg(long)]
    dry_run: bool,
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
        removals.push((located.name, removal));
    }
    for (name, removal) in removals {
        let bytes = removal.bytes();
        if args.dry_run {
            let paths = removal.names.iter().chain(&removal.blobs);
            let text: String = paths.map(|path| format!("{}\n", printable_path(path))).collect();
            model_args::print(&text)?;
            eprintln!("{}: {} would be free", printable(&name), units::bytes(bytes));
            continue;
        }
        removal.run().with_context(|| printable(&name).to_string())?;
        fetched.remove(&removal.names).context("the list of what gguf has fetched")?;
        eprintln!("removed {}: {} free", printable(&name), units::bytes(bytes));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn prune(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let unfinished = Places::from_environment().unfinished();
    let mut bytes = 0_u64;
    for (path, size) in &unfinished {
        model_args::print(&format!("{}\n", printable_path(path)))?;
        if !args.dry_run {
            std::fs::remove_file(path).with_context(|| printable_path(path).to_string())?;
        }
        bytes = bytes.saturating_add(*size);
    }
    let what = if args.dry_run { "would be free" } else { "free" };
    let files = if unfinished.len() == 1 { "file" } else { "files" };
    eprintln!("{} unfinished {files}: {} {what}", unfinished.len(), units::bytes(bytes));
    Ok(ExitCode::SUCCESS)
}
