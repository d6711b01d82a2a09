//! Numbers for people.

/// Bytes with a binary unit: `4.58 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// `4.2GB` (thousands), `300MiB` (of 1024), `2G`, or a number of bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let problem = || "a size such as 4.2GB, 4.2GiB or 500M".to_owned();
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| problem())?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let (letter, step) = match unit.strip_suffix("ib") {
        Some(letter) => (letter, 1024.0_f64),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1000.0),
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(problem()),
    };
    let bytes = number * step.powi(power);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be a size")]
    if (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(problem()) }
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
    use super::{bytes, count, parse_bytes};

    #[test]
    fn three_digits_are_shown() {
        let shown: Vec<_> = [0, 999, 1000, 1_235_814_432, 98_765, 999_999].map(count).into();
        assert_eq!(shown, ["0", "999", "1.00 K", "1.24 B", "98.8 K", "1.00 M"]);
        let shown: Vec<_> = [1023, 1024, 4_920_734_272, u64::MAX].map(bytes).into();
        assert_eq!(shown, ["1023 B", "1.00 KiB", "4.58 GiB", "16.0 EiB"]);
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("4.2GB", 4_200_000_000),
            ("4.2g", 4_200_000_000),
            ("1.5GiB", 1_610_612_736),
            ("300 MiB", 314_572_800),
            ("500M", 500_000_000),
            ("123456", 123_456),
            ("7kb", 7_000),
            ("3k", 3_000),
            ("2G", 2_000_000_000),
            ("1GB", 1_000_000_000),
            ("7", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "GB", "0", "4.2.1G", "-1G", "4PB", "1e9", "4 G B", "G", "99999999999G"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
