//! JSON as Python's `json.dumps` writes it: transformers' templates have it for `tojson`.

use std::fmt::Write as _;

use minijinja::Error;
use minijinja::value::{Kwargs, Serde};
use serde_json::Value as Json;

/// How a value is written.
struct Style {
    indent: Option<usize>,
    sort_keys: bool,
    ensure_ascii: bool,
    /// Between items, and between a key and its value.
    separators: (String, String),
}

/// `json.dumps(value, ensure_ascii=False)`, with its keyword arguments.
#[allow(clippy::needless_pass_by_value, reason = "filters take their arguments by value")]
pub(super) fn tojson(value: Serde<Json>, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let separators = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        _ => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = Style {
        indent,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        separators,
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    style.write(&value.0, 0, &mut out);
    Ok(out)
}

impl Style {
    fn write(&self, value: &Json, depth: usize, out: &mut String) {
        match value {
            Json::Array(items) if !items.is_empty() => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { &self.separators.0 } else { "" });
                    self.open_line(depth + 1, out);
                    self.write(item, depth + 1, out);
                }
                self.open_line(depth, out);
                out.push(']');
            }
            Json::Object(map) if !map.is_empty() => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(b.0));
                }
                out.push('{');
                for (i, (key, item)) in entries.into_iter().enumerate() {
                    out.push_str(if i > 0 { &self.separators.0 } else { "" });
                    self.open_line(depth + 1, out);
                    self.string(key, out);
                    out.push_str(&self.separators.1);
                    self.write(item, depth + 1, out);
                }
                self.open_line(depth, out);
                out.push('}');
            }
            Json::String(text) => self.string(text, out),
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(x) => out.push_str(&float(x)),
                None => out.push_str(&number.to_string()),
            },
            other => out.push_str(&other.to_string()),
        }
    }

    fn open_line(&self, depth: usize, out: &mut String) {
        if let Some(width) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    }

    fn string(&self, text: &str, out: &mut String) {
        let written = Json::from(text).to_string();
        // Python escapes this one as well.
        let written = if self.ensure_ascii { written.replace('\u{7f}', "\\u007f") } else { written };
        if !self.ensure_ascii || written.is_ascii() {
            return out.push_str(&written);
        }
        let mut units = [0; 2];
        for c in written.chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

/// A float as Python's `repr` writes it.
fn float(x: f64) -> String {
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{x:?}")
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats_are_written_as_in_python() {
        let all = [1.0, 2.5, 1e20, 1e16, 1e15, 1e-4, 1.5e-5, -1e300, 0.0, 0.1 + 0.2];
        let texts = all.map(float);
        let expected = [
            "1.0",
            "2.5",
            "1e+20",
            "1e+16",
            "1000000000000000.0",
            "0.0001",
            "1.5e-05",
            "-1e+300",
            "0.0",
            "0.30000000000000004",
        ];
        assert_eq!(texts, expected);
    }
}
