//! `gguf check`: whether a model's file, or a checkpoint's folder, is sound.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gguf_toolkit::check::{self, Finding, Options, Severity};
use gguf_toolkit::printable::printable_path;
use serde_json::{Value as Json, json};

use crate::pager::Output;
use crate::table::wrapped;
use crate::{model_args, progress, terminal};

/// Exit code when there is an error.
const UNSOUND: u8 = 1;
/// Version of the object of `--json`.
const SCHEMA_VERSION: u32 = 1;
/// Columns before the text of a finding: severity and id.
const INDENT: usize = 40;

/// Looks for what is wrong with models: the file's structure, the tensors and keys of the architecture, the tokenizer, the
/// chat template (also whether it hides instructions), and with --data the numbers. Folders of checkpoints are checked as
/// `convert --dry-run` does.
///
/// A line for each finding: severity, an id that does not change, place and cause. Exit codes: 0 without errors, 1 with any,
/// 2 when there is nothing to look at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf check model.gguf
  gguf check model.gguf --data                     # also reads all weights
  gguf check Llama-3.2-1B-Instruct                 # a checkpoint's folder
  gguf check *.gguf --json | jq '.[] | {path, sound}'")]
pub(crate) struct Args {
    /// Files, folders or names
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<PathBuf>,
    /// Also look at the numbers of all tensors: NaN, infinities, absurd magnitudes
    #[arg(long)]
    data: bool,
    /// Print a JSON array with an object for each model
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = Output::new();
    let (mut objects, mut sound) = (Vec::new(), true);
    for model in &args.models {
        // A checkpoint's folder is no name.
        let path = if model.is_dir() && model_args::is_checkpoint(model) {
            model.clone()
        } else {
            model_args::locate(model)?.path
        };
        let bytes = if args.data { file_bytes(&path) } else { 0 };
        let bar = progress::bytes(bytes, "checking");
        let findings = check::check(&path, Options { data: args.data }, &|bytes| bar.inc(bytes));
        bar.finish_and_clear();
        sound &= is_sound(&findings);
        if args.json {
            objects.push(as_json(&path, &findings));
        } else {
            write(&mut out, &path, &findings)?;
        }
    }
    if args.json {
        serde_json::to_writer_pretty(&mut out, &objects).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    out.finish()?;
    Ok(if sound { ExitCode::SUCCESS } else { UNSOUND.into() })
}

fn file_bytes(path: &Path) -> u64 {
    gguf_toolkit::gguf::Reader::open_any(path).map_or(0, |reader| reader.file_bytes())
}

fn is_sound(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Error)
}

fn write(out: &mut impl Write, path: &Path, findings: &[Finding]) -> io::Result<()> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let path = printable_path(path).to_string();
    for Finding { severity, id, text } in findings {
        // The path is named once.
        let text = text.strip_prefix(&format!("{path}: ")).unwrap_or(text);
        let room = terminal::width().map_or(usize::MAX, |width| width.saturating_sub(INDENT).max(INDENT));
        for (i, line) in wrapped(text, room).iter().enumerate() {
            let (severity, id) = if i == 0 { (severity.name(), *id) } else { ("", "") };
            writeln!(out, "{severity:<8}{id:<31} {line}")?;
        }
    }
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict = match (errors, warnings) {
        (0, 0) => "sound".to_owned(),
        (0, warnings) => format!("sound, with {}", plural(warnings, "warning")),
        (errors, 0) => plural(errors, "error"),
        (errors, warnings) => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    writeln!(out, "{path}: {verdict}")
}

fn as_json(path: &Path, findings: &[Finding]) -> Json {
    let finding =
        |finding: &Finding| json!({ "severity": finding.severity.name(), "id": finding.id, "text": finding.text });
    json!({
        "schema_version": SCHEMA_VERSION,
        "path": path.to_string_lossy(),
        "sound": is_sound(findings),
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}
