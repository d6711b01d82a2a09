//! Plans for people and for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use gguf_toolkit::TensorType;
use gguf_toolkit::printable::printable;
use gguf_toolkit::quantize::{Error, Plan, Reason};
use serde_json::{Value as Json, json};

use crate::table::{Column, Table};
use crate::{totals, units};

/// Writes every tensor with its types, why, and its bytes; then totals.
pub(super) fn write(out: &mut impl Write, plan: &Plan, source_bytes: u64) -> io::Result<()> {
    let mut table = Table::new([
        Column::names("tensor"),
        Column::left("shape").optional(2),
        Column::left("from").optional(1),
        Column::left("to"),
        Column::texts("why").optional(3),
        Column::right("bytes before").optional(4),
        Column::right("bytes"),
    ]);
    for tensor in &plan.tensors {
        table.row([
            printable(&tensor.spec.name).to_string(),
            units::shape(&tensor.spec.shape),
            tensor.source_type.to_string(),
            tensor.spec.ty.to_string(),
            tensor.reason.describe(),
            tensor.source_bytes().to_string(),
            tensor.bytes().to_string(),
        ]);
    }
    table.write(out)?;
    writeln!(out, "\nTotals")?;
    totals::write(out, &plan.by_type())?;
    if let Some(line) = fallbacks(plan) {
        writeln!(out, "\n{line}")?;
    }
    let files = if plan.shards > 1 { format!(" in {} files", plan.shards) } else { String::new() };
    writeln!(
        out,
        "\n{} -> {} ({} bytes{files}), {:.2} bits per weight",
        units::bytes(source_bytes),
        units::bytes(plan.file_bytes),
        plan.file_bytes,
        plan.bits_per_weight()
    )
}

/// How many tensors get another type because their rows do not fill blocks: `3 of 20 tensors fall back: ...`.
pub(crate) fn fallbacks(plan: &Plan) -> Option<String> {
    let mut kinds: BTreeMap<(TensorType, TensorType), usize> = BTreeMap::new();
    for tensor in plan.fallbacks() {
        if let Reason::Fallback(wished) = tensor.reason {
            *kinds.entry((wished, tensor.spec.ty)).or_default() += 1;
        }
    }
    let kinds: Vec<String> =
        kinds.iter().map(|((wished, ty), count)| format!("{count} from {wished} to {ty}")).collect();
    let count = plan.fallbacks().count();
    let verb = if count == 1 { "falls" } else { "fall" };
    (count > 0).then(|| {
        format!(
            "{count} of {} tensors {verb} back, their rows do not fill blocks: {}",
            plan.tensors.len(),
            kinds.join(", ")
        )
    })
}

/// The object of a plan.
///
/// # Errors
/// When the plan cannot stand in files.
pub(super) fn json(plan: &Plan, source_bytes: u64) -> Result<Json, Error> {
    let tensors: Vec<Json> = plan
        .tensors
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.spec.name,
                "shape": tensor.spec.shape,
                "source_type": tensor.source_type.name(),
                "type": tensor.spec.ty.name(),
                "reason": tensor.reason.kind(),
                "why": tensor.reason.describe(),
                "source_bytes": tensor.source_bytes(),
                "bytes": tensor.bytes(),
                "file": tensor.shard,
            })
        })
        .collect();
    let types: serde_json::Map<String, Json> = plan
        .by_type()
        .into_iter()
        .map(|(ty, total)| {
            let total = json!({ "tensors": total.tensors, "parameters": total.parameters, "bytes": total.bytes });
            (ty.name().to_owned(), total)
        })
        .collect();
    Ok(json!({
        "parameters": plan.parameters(),
        "bits_per_weight": plan.bits_per_weight(),
        "source_file_bytes": source_bytes,
        "file_bytes": plan.file_bytes,
        "file_sizes": plan.file_sizes()?,
        "tensor_bytes": plan.tensor_bytes(),
        "fallbacks": plan.fallbacks().count(),
        "types": types,
        "tensors": tensors,
    }))
}
