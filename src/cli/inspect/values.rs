//! `gguf inspect --values`: what the numbers of tensors look like.

use std::io::{self, Write};

use gguf_toolkit::gguf::TensorInfo;
use gguf_toolkit::inspect::Values;
use gguf_toolkit::printable::printable;
use serde_json::{Value as Json, json};

use crate::terminal;
use crate::units;

/// Columns of the longest bar.
const BAR: u64 = 40;

/// Writes the numbers of one tensor.
pub(super) fn write(out: &mut impl Write, tensor: &TensorInfo, values: &Values) -> io::Result<()> {
    let (name, shape) = (printable(&tensor.name), units::shape(&tensor.shape));
    writeln!(out, "{name}  {shape}  {}  {} elements", tensor.ty, values.count)?;
    writeln!(
        out,
        "  min {:.6e}  max {:.6e}  mean {:.6e}  deviation {:.6e}",
        values.min, values.max, values.mean, values.deviation
    )?;
    writeln!(
        out,
        "  zeros {}  NaN {}  infinite {}  beyond 8 deviations {}",
        values.zeros, values.nan, values.infinite, values.outlier_count
    )?;
    for outlier in &values.outliers {
        writeln!(out, "    element {}: {:e}", outlier.index, outlier.value)?;
    }
    let counts = &values.histogram.counts;
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mark = if terminal::is_rich() { "█" } else { "#" };
    #[allow(clippy::cast_precision_loss, reason = "a scale")]
    let step = (values.max - values.min) / counts.len() as f64;
    for (i, &count) in counts.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "a scale")]
        let from = values.min + step * i as f64;
        // Every class with something in it has a mark.
        let bar = usize::try_from((count * BAR / most).max(u64::from(count > 0))).unwrap_or(0);
        writeln!(out, "{}", format!("  {from:>13.4e}  {count:>10}  {}", mark.repeat(bar)).trim_end())?;
    }
    Ok(())
}

/// The object of one tensor.
pub(super) fn json(tensor: &TensorInfo, values: &Values) -> Json {
    let number = |x: f64| if x.is_finite() { Json::from(x) } else { Json::Null };
    json!({
        "name": tensor.name,
        "shape": tensor.shape,
        "type": tensor.ty.name(),
        "elements": values.count,
        "nan": values.nan,
        "infinite": values.infinite,
        "zeros": values.zeros,
        "min": number(values.min),
        "max": number(values.max),
        "mean": number(values.mean),
        "deviation": number(values.deviation),
        "histogram": values.histogram.counts,
        "outlier_count": values.outlier_count,
        "outliers": values.outliers.iter().map(|o| json!({ "element": o.index, "value": o.value })).collect::<Vec<_>>(),
    })
}
