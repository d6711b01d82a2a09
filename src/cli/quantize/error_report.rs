//! What quantizing has cost, for people and for programs.

use std::io::{self, IsTerminal, Write};

use gguf_toolkit::printable::printable;
use gguf_toolkit::quantize::{ModelError, TotalError};
use serde_json::{Value as Json, json};

use crate::table::{Column, Table};

/// Columns of the longest bar.
const BAR: f64 = 40.0;

/// Writes a table of tensors, and a bar for each block.
pub(super) fn write(out: &mut impl Write, errors: &ModelError) -> io::Result<()> {
    let mut table = Table::new([
        Column::names("tensor"),
        Column::left("from").optional(3),
        Column::left("to"),
        Column::right("RMSE").optional(1),
        Column::right("relative"),
        Column::right("cosine").optional(2),
        Column::right("max error").optional(4),
        Column::right("at element").optional(6),
        Column::right("worst block").optional(7),
        Column::right("its RMSE").optional(5),
    ]);
    for tensor in &errors.tensors {
        table.row([
            printable(&tensor.name).to_string(),
            tensor.source_type.to_string(),
            tensor.ty.to_string(),
            format!("{:.3e}", tensor.rmse),
            percent(tensor.relative_rmse),
            format!("{:.6}", tensor.cosine),
            format!("{:.3e}", tensor.max_error),
            tensor.max_at.to_string(),
            tensor.worst_block.to_string(),
            format!("{:.3e}", tensor.worst_rmse),
        ]);
    }
    table.write(out)?;
    let total = errors.total();
    writeln!(
        out,
        "\nAll together: RMSE {:.3e}, relative {}, cosine {:.6}",
        total.rmse,
        percent(total.relative_rmse),
        total.cosine
    )?;
    writeln!(out, "\nRelative RMSE by block")?;
    write_bars(out, &errors.by_layer(), if io::stdout().is_terminal() { '█' } else { '#' })
}

fn percent(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}

fn write_bars(out: &mut impl Write, layers: &[TotalError], mark: char) -> io::Result<()> {
    let most = layers.iter().map(|layer| layer.relative_rmse).fold(0.0, f64::max);
    for layer in layers {
        let name = layer.layer.map_or_else(|| "other".to_owned(), |number| number.to_string());
        let share = if most > 0.0 { layer.relative_rmse / most } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BAR")]
        let bar = mark.to_string().repeat((share * BAR).round() as usize);
        let line = format!("{name:>5}  {:>8}  {bar}", percent(layer.relative_rmse));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Adds measures to the report of a plan: to each of its tensors, and in all.
pub(super) fn add_json(report: &mut Json, errors: &ModelError) {
    for tensor in &errors.tensors {
        report["tensors"][tensor.tensor]["error"] = json!({
            "rmse": tensor.rmse,
            "relative_rmse": tensor.relative_rmse,
            "cosine": tensor.cosine,
            "max_error": tensor.max_error,
            "max_error_at": tensor.max_at,
            "worst_block": tensor.worst_block,
            "worst_block_rmse": tensor.worst_rmse,
        });
    }
    report["error"] = total_json(&errors.total());
    report["layer_errors"] = errors.by_layer().iter().map(total_json).collect();
}

fn total_json(total: &TotalError) -> Json {
    json!({
        "layer": total.layer,
        "parameters": total.elements,
        "rmse": total.rmse,
        "relative_rmse": total.relative_rmse,
        "cosine": total.cosine,
    })
}
