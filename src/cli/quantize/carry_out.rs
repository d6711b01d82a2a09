//! Carrying a plan out, or showing it, and telling what came of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use gguf_toolkit::files::{OutputError, check_room, free_room};
use gguf_toolkit::memory;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::{self, Outcome, Phase, Plan, Source};
use serde_json::Value as Json;

use super::args::WriteArgs;
use super::{error_report, plan_report};
use crate::{outputs, progress, units};

/// Shows `plan`, or writes it to `output`. `doing` stands before the progress bar, `source_bytes` are those of the
/// input's files.
pub(crate) fn carry_out(
    source: &dyn Source,
    plan: &Plan,
    args: &WriteArgs,
    output: &Path,
    doing: &str,
    source_bytes: u64,
) -> anyhow::Result<ExitCode> {
    if args.dry_run {
        return show(source, plan, args, output, source_bytes);
    }
    plan.check_importance(source)?;
    outputs::check(output, plan.shards, args.run_options().force)?;
    report_without_importance(plan);
    let start = Instant::now();
    let bar = progress::bytes(plan.tensor_bytes(), doing);
    let outcome = quantize::run(source, plan, output, &args.run_options(), &|progress| {
        if progress.phase == Phase::Checking && progress.done < progress.total {
            bar.set_message("checking");
        }
        bar.set_position(progress.done);
        true
    })?;
    bar.finish_and_clear();
    report(plan, &outcome, source_bytes, start);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let mut report = plan_report::json(plan, source_bytes)?;
        report["files"] = outcome.paths.iter().map(|path| Json::from(path.to_string_lossy())).collect();
        report["seconds"] = start.elapsed().as_secs_f64().into();
        if let Some(errors) = &outcome.errors {
            error_report::add_json(&mut report, errors);
        }
        write_json(&mut out, &report)?;
    } else if let Some(errors) = &outcome.errors {
        error_report::write(&mut out, errors)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Shows `plan` and what it needs.
///
/// # Errors
/// When the output may not be where it shall be, or disk or memory do not suffice: what `--force` cannot mend.
fn show(
    source: &dyn Source,
    plan: &Plan,
    args: &WriteArgs,
    output: &Path,
    source_bytes: u64,
) -> anyhow::Result<ExitCode> {
    let options = args.run_options();
    let (memory, available) = (quantize::memory_bytes(source, plan, &options), memory::available());
    let existing = existing(plan, options.force, output)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        let mut report = plan_report::json(plan, source_bytes)?;
        report["output"] = output.to_string_lossy().into();
        report["output_exists"] = existing.is_some().into();
        report["memory_bytes"] = memory.into();
        write_json(&mut out, &report)?;
    } else {
        plan_report::write(&mut out, plan, source_bytes)?;
        let of =
            |bytes: Option<u64>, what| bytes.map_or_else(String::new, |n| format!(" ({} {what})", units::bytes(n)));
        writeln!(
            out,
            "Needs {}{} on the disk, at most {}{} of memory",
            units::bytes(plan.file_bytes),
            of(free_room(output).ok(), "free"),
            units::bytes(memory),
            of(available, "available"),
        )?;
    }
    out.flush()?;
    report_without_importance(plan);
    if let Err(error) = plan.check_importance(source) {
        eprintln!("warning: {error}");
    }
    if let Some(path) = existing {
        let then = if options.force { "it would be replaced" } else { "only --force replaces it" };
        eprintln!("{}: exists already; {then}", printable_path(&path));
    }
    check_room(output, plan.file_bytes)?;
    quantize::check_memory(output, memory, available)?;
    Ok(ExitCode::SUCCESS)
}

/// Says which tensors an importance matrix does not know, where there is one.
fn report_without_importance(plan: &Plan) {
    let unknown: Vec<String> =
        plan.without_importance().map(|tensor| printable(&tensor.spec.name).to_string()).collect();
    let any = plan.tensors.iter().any(|tensor| tensor.importance.is_some());
    // The embedding is looked up and not multiplied: a matrix never knows it. Nor, usually, the output.
    let unexpected = unknown.iter().filter(|name| !name.ends_with("token_embd.weight") && *name != "output.weight");
    let unexpected: Vec<&str> = unexpected.map(String::as_str).collect();
    if any && !unexpected.is_empty() {
        let more = if unexpected.len() > 8 { format!(" and {} more", unexpected.len() - 8) } else { String::new() };
        let shown = unexpected[..unexpected.len().min(8)].join(", ");
        eprintln!("warning: the importance matrix knows nothing of {} tensors: {shown}{more}", unexpected.len());
    }
}

/// The first of the files that `plan` makes that is there already.
///
/// # Errors
/// When it cannot be replaced at all.
fn existing(plan: &Plan, force: bool, output: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Err(error) = outputs::check(output, plan.shards, false) else { return Ok(None) };
    let Some(OutputError::Exists { path }) = error.downcast_ref() else { return Err(error) };
    if force {
        outputs::check(output, plan.shards, true)?;
    }
    Ok(Some(path.clone()))
}

fn write_json(out: &mut impl Write, report: &Json) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
    writeln!(out)
}

/// One line about what was written, and one about what could not be as wished.
fn report(plan: &Plan, outcome: &Outcome, source_bytes: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "some digits are shown")]
    let rate = plan.parameters() as f64 / seconds / 1e6;
    let more = match outcome.paths.len() {
        0 | 1 => String::new(),
        files => format!(" and {} more", files - 1),
    };
    eprintln!(
        "{}{more}: {} -> {}, {:.2} bits per weight, {seconds:.1} s, {rate:.1} M weights/s",
        outcome.paths.first().map_or_else(String::new, |path| printable_path(path).to_string()),
        units::bytes(source_bytes),
        units::bytes(outcome.file_bytes),
        plan.bits_per_weight(),
    );
    if let Some(line) = plan_report::fallbacks(plan) {
        eprintln!("warning: {line} (--no-fallback refuses that)");
    }
}
