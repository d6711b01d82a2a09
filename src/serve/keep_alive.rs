//! Parses how long a model stays loaded after its last request, in the form of Ollama's clients and `--keep-alive`.

use std::time::Duration;

use serde_json::Value as Json;

use super::failure::Failure;
use super::fields::Fields;

/// How long a model stays loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// This time after its last request.
    For(Duration),
    /// Until the server ends, or another model needs its memory.
    Forever,
}

impl KeepAlive {
    /// Parses seconds (`300`) or a Go duration (`5m`, `1h30m`, `500ms`); negative values mean forever.
    ///
    /// # Errors
    /// The expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be a number of seconds, or a time like 5m, 1h30m".to_owned();
        let seconds = match text.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) => duration(text).ok_or_else(wrong)?,
        };
        Self::seconds(seconds).ok_or_else(wrong)
    }

    fn seconds(seconds: f64) -> Option<Self> {
        if seconds < 0.0 {
            return Some(Self::Forever);
        }
        Duration::try_from_secs_f64(seconds).ok().map(Self::For)
    }

    /// The setting of a request: `keep_alive`, or LM Studio's `ttl` in seconds.
    pub(super) fn of(fields: Fields<'_>) -> Result<Option<Self>, Failure> {
        let Some((name, value)) = ["keep_alive", "ttl"].iter().find_map(|name| Some((name, fields.get(name)?))) else {
            return Ok(None);
        };
        let read = match value {
            Json::String(text) => Self::parse(text).ok(),
            _ => value.as_f64().and_then(Self::seconds),
        };
        let must = "must be a number of seconds, or a time like 5m, 1h30m";
        read.map(Some).ok_or_else(|| Failure::field(name, must))
    }

    /// The time, unless it is forever.
    pub(super) fn time(self) -> Option<Duration> {
        match self {
            Self::For(time) => Some(time),
            Self::Forever => None,
        }
    }
}

/// Seconds of a duration in Go's form.
fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, factor) = units.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[digits + unit.len()..];
    }
    Some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_gos_durations_are_read() {
        let seconds = |text: &str| KeepAlive::parse(text).map(|keep| keep.time().map(|time| time.as_secs_f64()));
        assert_eq!(seconds("300"), Ok(Some(300.0)));
        assert_eq!(
            (seconds("5m"), seconds("1h30m"), seconds("250ms")),
            (Ok(Some(300.0)), Ok(Some(5400.0)), Ok(Some(0.25)))
        );
        assert_eq!((seconds("0"), seconds("-1"), seconds("-1m")), (Ok(Some(0.0)), Ok(None), Ok(None)));
        for wrong in ["", "m", "5x", "5m3", "nan", "1e99", "-"] {
            assert!(KeepAlive::parse(wrong).is_err(), "{wrong}");
        }
    }
}
