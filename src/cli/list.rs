//! `gguf list`: the models on this machine.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gguf_toolkit::gguf::Reader;
use gguf_toolkit::inspect::Summary;
use gguf_toolkit::printable::printable;
use gguf_toolkit::stores::{Entry, Places};
use serde_json::{Value as Json, json};

use crate::pager::Output;
use crate::table::{Column, Table};
use crate::{model_args, units};

/// Version of the objects of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// Lists the models on this machine by the names that every command takes: those of Hugging Face's cache, Ollama,
/// LM Studio, llama.cpp, and of the folders in GGUF_MODELS.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf list
  gguf list qwen                                    # the models whose names have this in them
  gguf list --json | jq -r '.[].name'
  GGUF_MODELS=~/models:/mnt/models gguf list        # also what lies in these folders")]
pub(crate) struct Args {
    /// Only models whose names have this in them, in any case
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

/// A model with what its header says.
struct Listed {
    entry: Entry,
    /// `Err` says why it cannot be opened.
    summary: Result<Summary, String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let places = Places::from_environment();
    let filter = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let wanted = |entry: &Entry| entry.located.name.to_lowercase().contains(&filter);
    let listed: Vec<Listed> = places.list().into_iter().filter(wanted).map(read).collect();
    if args.json {
        let all: Json = listed.iter().map(as_json).collect();
        model_args::print(&format!("{all:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        eprintln!("no models found (GGUF_MODELS names folders to search)");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        Column::names("name"),
        Column::left("id").optional(5),
        Column::right("size"),
        Column::left("modified").optional(4),
        Column::left("type").optional(1),
        Column::left("where").optional(2),
        Column::left("runs").optional(3),
    ];
    let mut table = Table::new(columns);
    for Listed { entry, summary } in &listed {
        let ty = summary.as_ref().ok().and_then(Summary::file_type_name).unwrap_or("");
        let runs = summary.as_ref().is_ok_and(|summary| summary.usable.is_ok());
        table.row([
            printable(&entry.located.name).to_string(),
            entry.located.digest().map_or_else(String::new, |digest| digest.short().to_owned()),
            units::bytes(entry.bytes),
            entry.modified.map_or_else(String::new, ago),
            ty.to_owned(),
            entry.located.store.name().to_owned(),
            if runs { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let mut out = Output::new();
    table.write(&mut out)?;
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn read(entry: Entry) -> Listed {
    let summary = Reader::open(&entry.located.path).map(|reader| Summary::new(&reader)).map_err(|e| e.to_string());
    Listed { entry, summary }
}

/// How long ago, in the largest whole unit.
fn ago(time: SystemTime) -> String {
    let past = SystemTime::now().duration_since(time).unwrap_or(Duration::ZERO).as_secs();
    let units = [(86_400 * 365, "year"), (86_400 * 30, "month"), (86_400, "day"), (3600, "hour"), (60, "minute")];
    match units.iter().find(|(seconds, _)| past >= *seconds) {
        Some((seconds, unit)) => {
            let count = past / seconds;
            format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
        }
        None => "now".into(),
    }
}

fn as_json(listed: &Listed) -> Json {
    let Listed { entry, summary } = listed;
    let known = summary.as_ref().ok();
    let why_not = match summary {
        Ok(summary) => summary.usable.as_ref().err(),
        Err(error) => Some(error),
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "name": entry.located.name,
        "id": entry.located.digest().map(|digest| digest.digits().to_owned()),
        "path": entry.located.path.to_string_lossy(),
        "store": entry.located.store.name(),
        "bytes": entry.bytes,
        "architecture": known.and_then(|s| s.architecture.as_deref()),
        "parameters": known.map(|s| s.parameters),
        "file_type_name": known.and_then(Summary::file_type_name),
        "runs": why_not.is_none(),
        "cannot_run": why_not,
        "modified_seconds": entry.modified.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map(|d| d.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::ago;

    #[test]
    fn times_are_told_in_the_largest_unit() {
        let before = |seconds| ago(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!(
            [0, 61, 7300, 90_000, 86_400 * 800].map(before),
            ["now", "1 minute ago", "2 hours ago", "1 day ago", "2 years ago"]
        );
    }
}
