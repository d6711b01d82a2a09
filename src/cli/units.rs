//! Numbers for people.

/// Bytes with a binary unit: `4.58 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// A count with a decimal unit: `1.24 B` (billions).
pub(crate) fn count(count: u64) -> String {
    scaled(count, 1000, &["", "K", "M", "B", "T", "P", "E"])
}

/// Dimensions without spaces, so that they are one column for other programs.
pub(crate) fn shape(dims: &[u64]) -> String {
    let dims: Vec<String> = dims.iter().map(u64::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// Three digits and the unit in which there are no more than four before the point.
fn scaled(value: u64, step: u32, units: &[&str]) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut scaled = value as f64;
    let mut units = units.iter();
    let mut unit = units.next();
    // 999.5 would be shown as 1000.
    while scaled >= f64::from(step) - 0.5 {
        match units.next() {
            Some(next) => unit = Some(next),
            None => break,
        }
        scaled /= f64::from(step);
    }
    let unit = unit.copied().unwrap_or_default();
    let digits = match scaled {
        _ if value < u64::from(step) => 0,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{bytes, count};

    #[test]
    fn three_digits_are_shown() {
        let shown: Vec<_> = [0, 999, 1000, 1_235_814_432, 98_765, 999_999].map(count).into();
        assert_eq!(shown, ["0", "999", "1.00 K", "1.24 B", "98.8 K", "1.00 M"]);
        let shown: Vec<_> = [1023, 1024, 4_920_734_272, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["1023 B", "1.00 KiB", "4.58 GiB", "16.0 EiB"]);
    }
}
