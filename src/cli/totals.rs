//! Tensors by type: how many, how large.

use std::collections::BTreeMap;
use std::io::{self, Write};

use gguf_toolkit::TensorType;
use gguf_toolkit::quantize::TypeTotal;

use crate::table::{Column, Table};

/// Writes a table with a row for each type, and one for all together.
pub(crate) fn write(out: &mut impl Write, totals: &BTreeMap<TensorType, TypeTotal>) -> io::Result<()> {
    let mut table = Table::new([
        Column::left("type"),
        Column::right("tensors").optional(2),
        Column::right("parameters").optional(1),
        Column::right("bytes"),
        Column::right("bits per weight").optional(3),
    ]);
    let row = |name: String, total: &TypeTotal| {
        let bits = bits_per_weight(total.bytes, total.parameters);
        let bits = bits.map_or_else(String::new, |bits| format!("{bits:.2}"));
        [name, total.tensors.to_string(), total.parameters.to_string(), total.bytes.to_string(), bits]
    };
    let mut all = TypeTotal::default();
    for (ty, total) in totals {
        table.row(row(ty.to_string(), total));
        all.add(total.tensors, total.parameters, total.bytes);
    }
    table.row(row("total".into(), &all));
    table.write(out)
}

/// Bits that an element takes on average; `None` when there are no elements.
pub(crate) fn bits_per_weight(bytes: u64, elements: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "some digits are shown")]
    (elements > 0).then(|| bytes as f64 * 8.0 / elements as f64)
}
