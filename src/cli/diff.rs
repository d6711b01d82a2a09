//! `gguf diff`: how two models differ.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use gguf_toolkit::gguf::{Reader, Value};
use gguf_toolkit::inspect::{DataDifference, Difference, KeyDifference, TensorChange, TensorDifference};
use gguf_toolkit::printable::{printable, printable_path};
use serde_json::{Value as Json, json};

use crate::inspect::{json::value_json, text::short_value};
use crate::model_args;
use crate::pager::Output;
use crate::table::{Column, Table};
use crate::units;

/// Exit code when the models differ.
const DIFFERENT: u8 = 1;
/// Version of the object of `--json`.
const SCHEMA_VERSION: u32 = 1;

/// Compares two models: metadata, tensors, their shapes and types, and how far their numbers are apart.
///
/// Exit codes: 0 when nothing differs, 1 when something does, 2 when a model cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf diff f16.gguf f16.gguf                       # nothing differs
  gguf diff f16.gguf q4_k_m.gguf || true            # what quantizing has changed, tensor by tensor
  gguf diff f16.gguf q4_k_m.gguf --no-data || true  # headers alone, at once
  gguf diff f16.gguf q4_k_m.gguf --json | jq '.tensors | length'")]
pub(crate) struct Args {
    /// File, folder or name
    #[arg(value_name = "A")]
    first: PathBuf,
    /// File, folder or name
    #[arg(value_name = "B")]
    second: PathBuf,
    /// Do not read weights: compare metadata, names, shapes and types
    #[arg(long)]
    no_data: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (a, b) = (model_args::open(&args.first)?, model_args::open(&args.second)?);
    let context = || format!("{} and {}", printable_path(a.path()), printable_path(b.path()));
    let found = Difference::between(&a, &b, !args.no_data).with_context(context)?;
    let mut out = Output::new();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &as_json(&a, &b, &found)).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write(&mut out, &a, &b, &found)?;
    }
    out.finish()?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { DIFFERENT.into() })
}

fn write(out: &mut impl Write, a: &Reader, b: &Reader, found: &Difference) -> io::Result<()> {
    if found.is_empty() {
        return writeln!(out, "no difference: {} keys, {} tensors", a.metadata().len(), a.tensors().len());
    }
    writeln!(out, "A  {}\nB  {}", printable_path(a.path()), printable_path(b.path()))?;
    if !found.keys.is_empty() {
        writeln!(out, "\nMetadata: {} keys differ", found.keys.len())?;
        let mut table = Table::new([Column::names("key"), Column::texts("A"), Column::texts("B")]);
        for KeyDifference { key, first, second } in &found.keys {
            let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), short_value);
            table.row([printable(key).to_string(), text(first), text(second)]);
        }
        table.write(out)?;
    }
    if !found.tensors.is_empty() {
        writeln!(out, "\nTensors: {} differ", found.tensors.len())?;
        write_tensors(out, &found.tensors)?;
    }
    Ok(())
}

fn write_tensors(out: &mut impl Write, tensors: &[TensorDifference]) -> io::Result<()> {
    let mut table = Table::new([
        Column::names("tensor"),
        Column::texts("what"),
        Column::right("relative RMSE"),
        Column::right("RMSE").optional(1),
        Column::right("greatest").optional(2),
        Column::right("elements that differ").optional(3),
    ]);
    for TensorDifference { name, change } in tensors {
        let (what, numbers) = match change {
            TensorChange::OnlyFirst => ("in A alone".to_owned(), None),
            TensorChange::OnlySecond => ("in B alone".to_owned(), None),
            TensorChange::Shape(a, b) => (format!("{} -> {}", units::shape(a), units::shape(b)), None),
            TensorChange::Data { types: (a, b), numbers } if a == b => (a.to_string(), *numbers),
            TensorChange::Data { types: (a, b), numbers } => (format!("{a} -> {b}"), *numbers),
        };
        let number = |show: &dyn Fn(DataDifference) -> String| numbers.map_or_else(String::new, show);
        table.row([
            printable(name).to_string(),
            what,
            number(&|n| format!("{:.4} %", n.relative_rmse * 100.0)),
            number(&|n| format!("{:.3e}", n.rmse)),
            number(&|n| format!("{:.3e}", n.max)),
            number(&|n| n.differing.to_string()),
        ]);
    }
    table.write(out)
}

fn as_json(a: &Reader, b: &Reader, found: &Difference) -> Json {
    let value = |value: &Option<Value>| value.as_ref().map(|value| value_json(value, false));
    let key = |k: &KeyDifference| json!({ "key": k.key, "a": value(&k.first), "b": value(&k.second) });
    json!({
        "schema_version": SCHEMA_VERSION,
        "a": a.path().to_string_lossy(),
        "b": b.path().to_string_lossy(),
        "equal": found.is_empty(),
        "metadata": found.keys.iter().map(key).collect::<Vec<_>>(),
        "tensors": found.tensors.iter().map(tensor_json).collect::<Vec<_>>(),
    })
}

fn tensor_json(tensor: &TensorDifference) -> Json {
    let finite = |x: f64| if x.is_finite() { Json::from(x) } else { Json::Null };
    match &tensor.change {
        TensorChange::OnlyFirst => json!({ "name": tensor.name, "change": "only_a" }),
        TensorChange::OnlySecond => json!({ "name": tensor.name, "change": "only_b" }),
        TensorChange::Shape(a, b) => json!({ "name": tensor.name, "change": "shape", "a": a, "b": b }),
        TensorChange::Data { types: (a, b), numbers } => json!({
            "name": tensor.name,
            "change": if a == b { "data" } else { "type" },
            "a": a.name(),
            "b": b.name(),
            "elements": numbers.map(|n| n.elements),
            "differing": numbers.map(|n| n.differing),
            "rmse": numbers.map(|n| finite(n.rmse)),
            "relative_rmse": numbers.map(|n| finite(n.relative_rmse)),
            "max": numbers.map(|n| finite(n.max)),
        }),
    }
}
