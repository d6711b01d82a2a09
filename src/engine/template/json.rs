//! Writes JSON like Python's `json.dumps`, which is `tojson` in transformers.

use std::fmt::Write as _;

use super::ops::{Args, Ops};
use super::text::{Builder, Text};
use super::value::{Value, float};
use super::{Fault, value};

/// Formatting of JSON.
struct Style {
    indent: Option<usize>,
    sort_keys: bool,
    ensure_ascii: bool,
    /// The text between items, and between a key and its value.
    separators: (String, String),
}

/// Maximum indent per level of nesting.
const MAX_INDENT: usize = 64;

/// `json.dumps(value, ensure_ascii=False)`, with its keyword arguments.
pub(super) fn tojson(ops: &Ops, value: &Value, args: &Args) -> Result<Value, Fault> {
    let mut style =
        Style { indent: None, sort_keys: false, ensure_ascii: false, separators: (", ".to_owned(), ": ".to_owned()) };
    // transformers: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)
    let order = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let plain = order.iter().copied().zip(&args.plain);
    let all = plain.chain(args.named.iter().map(|(name, value)| (name.as_str(), value)));
    let mut separators = None;
    for (name, value) in all {
        match name {
            "ensure_ascii" => style.ensure_ascii = value.is_true(),
            "indent" => {
                let indent = value.as_int().map(|n| usize::try_from(n).unwrap_or(0));
                if indent.is_some_and(|n| n > MAX_INDENT) {
                    return Err(ops.fault(format!("an indent of more than {MAX_INDENT}")));
                }
                style.indent = indent;
            }
            "separators" => {
                if let Value::List(list) = value
                    && let [Value::Str(item), Value::Str(key)] = list.items.as_slice()
                {
                    separators = Some((item.as_str().to_owned(), key.as_str().to_owned()));
                }
            }
            "sort_keys" => style.sort_keys = value.is_true(),
            other => return Err(ops.fault(format!("tojson has no argument {other}"))),
        }
    }
    if style.indent.is_some() {
        style.separators.0 = ",".to_owned();
    }
    if let Some(separators) = separators {
        style.separators = separators;
    }
    let overhead = style.separators.0.len() + style.separators.1.len() + style.indent.unwrap_or(0) * 8;
    value::weigh(value, &mut |n| ops.pay_bytes(n.saturating_mul(16 + overhead)))?;
    let mut out = Builder::default();
    style.write(ops, value, 0, &mut out)?;
    ops.made(out.finish())
}

impl Style {
    fn write(&self, ops: &Ops, value: &Value, depth: usize, out: &mut Builder) -> Result<(), Fault> {
        match value {
            Value::None => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Float(x) if x.is_nan() => out.push_str("NaN"),
            Value::Float(x) if x.is_infinite() => out.push_str(if *x > 0.0 { "Infinity" } else { "-Infinity" }),
            Value::Float(x) => out.push_str(&float(*x)),
            Value::Str(text) => out.push(&self.string(text)),
            Value::List(list) if list.items.is_empty() => out.push_str("[]"),
            Value::List(list) => {
                out.push_str("[");
                for (i, item) in list.items.iter().enumerate() {
                    out.push_str(if i > 0 { &self.separators.0 } else { "" });
                    self.open_line(depth + 1, out);
                    self.write(ops, item, depth + 1, out)?;
                }
                self.open_line(depth, out);
                out.push_str("]");
            }
            Value::Dict(dict) if dict.entries.is_empty() => out.push_str("{}"),
            Value::Dict(dict) => {
                let mut entries: Vec<(Text, &Value)> =
                    dict.entries.iter().map(|(key, value)| (key_text(key), value)).collect();
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
                }
                out.push_str("{");
                for (i, (key, item)) in entries.into_iter().enumerate() {
                    out.push_str(if i > 0 { &self.separators.0 } else { "" });
                    self.open_line(depth + 1, out);
                    out.push(&self.string(&key));
                    out.push_str(&self.separators.1);
                    self.write(ops, item, depth + 1, out)?;
                }
                self.open_line(depth, out);
                out.push_str("}");
            }
            other => return Err(ops.fault(format!("no JSON for {}", other.type_name()))),
        }
        Ok(())
    }

    fn open_line(&self, depth: usize, out: &mut Builder) {
        if let Some(width) = self.indent {
            out.push_str("\n");
            out.push_str(&" ".repeat(width * depth));
        }
    }

    fn string(&self, text: &Text) -> Text {
        let written = serde_json::Value::from(text.as_str()).to_string();
        // Python escapes this character as well.
        let written = if self.ensure_ascii { written.replace('\u{7f}', "\\u007f") } else { written };
        let mut out = String::with_capacity(written.len());
        let mut units = [0; 2];
        for c in written.chars() {
            if c.is_ascii() || !self.ensure_ascii {
                out.push(c);
            } else {
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
        text.made(out).with_markup(false)
    }
}

/// A key as text, since JSON has only strings as keys.
fn key_text(key: &Value) -> Text {
    match key {
        Value::Str(text) => text.clone(),
        Value::Bool(b) => Text::new(if *b { "true" } else { "false" }),
        Value::None => Text::new("null"),
        other => other.to_text(),
    }
}
