//! Methods of Python's strings and lists that templates call and `minijinja-contrib` does not have.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value};

use super::python_markup;

/// Calls `method` of `value`, as minijinja's `unknown_method_callback`.
pub(super) fn call(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if value.is_safe() {
        let args = python_markup::arguments(method, args)?;
        return python_markup::result(method_of(state, value, method, &args)?);
    }
    method_of(state, value, method, args)
}

fn method_of(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let known = match value.as_str() {
        Some(text) => string_method(state, text, method, args)?,
        None => list_method(value, method, args)?,
    };
    known.map_or_else(|| minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args), Ok)
}

fn string_method(state: &State<'_, '_>, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "rsplit" => {
            let (separator, max): (Option<&str>, Option<usize>) = from_args(args)?;
            rsplit(text, separator, max.unwrap_or(usize::MAX))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let found = if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match found {
                Some((before, after)) => [before, separator, after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::from_iter(parts.map(str::to_owned))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let fill = fill.unwrap_or(" ");
            // minijinja counts a text when it is there, which is too late for one that does not fit into memory.
            state.consume_fuel(width.saturating_mul(fill.len()) as u64 / 64)?;
            Value::from(justified(text, method, width, fill))
        }
        "casefold" => Value::from(text.to_lowercase()),
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect::<String>() }
            };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "expandtabs" => Value::from(text.replace('\t', "        ")),
        _ => return Ok(None),
    }))
}

/// Parts from the right; without a separator, words.
fn rsplit(text: &str, separator: Option<&str>, max: usize) -> Value {
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(max.saturating_add(1), separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let cut = rest.rfind(char::is_whitespace).filter(|_| parts.len() < max);
                let start = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
                parts.push(&rest[start..]);
                rest = rest[..cut.unwrap_or(0)].trim_end();
            }
            parts
        }
    };
    parts.reverse();
    Value::from_iter(parts.into_iter().map(str::to_owned))
}

fn justified(text: &str, method: &str, width: usize, fill: &str) -> String {
    let missing = width.saturating_sub(text.chars().count());
    if missing == 0 {
        return text.to_owned();
    }
    match method {
        "ljust" => text.to_owned() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + text,
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        _ => {
            // Python puts the odd one left of texts in odd widths.
            let left = missing / 2 + (missing & width & 1);
            fill.repeat(left) + text + &fill.repeat(missing - left)
        }
    }
}

fn list_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    if method != "index" || value.as_object().is_none() {
        return Ok(None);
    }
    let (wanted,): (Value,) = from_args(args)?;
    let at = value.try_iter()?.position(|item| item == wanted);
    let at = at.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("{wanted} is not in list")))?;
    Ok(Some(Value::from(at)))
}
