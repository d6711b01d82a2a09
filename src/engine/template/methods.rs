//! Methods of Python's strings, lists and dictionaries.

use super::Fault;
use super::ops::{Args, Ops};
use super::text::Text;
use super::value::{self, Value};

pub(super) fn call(ops: &Ops, value: &Value, name: &str, args: &Args) -> Result<Value, Fault> {
    match value {
        Value::Str(text) => string(ops, text, name, args),
        Value::Dict(dict) => match name {
            "items" => {
                let pairs = dict.entries.iter().map(|(key, value)| ops.tuple(vec![key.clone(), value.clone()]));
                ops.list(pairs.collect::<Result<_, _>>()?)
            }
            "keys" => ops.list(dict.entries.iter().map(|(key, _)| key.clone()).collect()),
            "values" => ops.list(dict.entries.iter().map(|(_, value)| value.clone()).collect()),
            "get" => {
                let key = args.plain.first().ok_or_else(|| ops.fault("get needs a key"))?;
                let found = value::find(dict, key, &mut |n| ops.pay(n))?;
                let default = args.plain.get(1).or(args.named.first().map(|(_, value)| value));
                Ok(found.or(default).cloned().unwrap_or(Value::None))
            }
            "copy" => Ok(value.clone()),
            _ => Err(ops.fault(format!("{name} would change a dictionary"))),
        },
        Value::List(list) => match (name, args.plain.first()) {
            ("index" | "count", Some(wanted)) => {
                let mut count = 0;
                for (i, item) in list.items.iter().enumerate() {
                    if ops.equal(item, wanted)? {
                        if name == "index" {
                            return Ok(int(i));
                        }
                        count += 1;
                    }
                }
                if name == "count" { Ok(int(count)) } else { Err(ops.fault("the value is not in the list")) }
            }
            ("copy", _) => Ok(value.clone()),
            _ => Err(ops.fault(format!("{name} would change a list"))),
        },
        Value::Loop(state) if name == "cycle" => {
            let index = state.borrow().index;
            let count = args.plain.len().max(1);
            Ok(args.plain.get(index % count).cloned().unwrap_or(Value::None))
        }
        Value::Loop(state) => {
            let now = ops.tuple(args.plain.clone())?;
            let before = state.borrow_mut().last_changed.replace(now.clone());
            Ok(Value::Bool(match before {
                Some(before) => !ops.equal(&before, &now)?,
                None => true,
            }))
        }
        other => Err(ops.fault(format!("{} has no method {name}", other.type_name()))),
    }
}

fn int(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Arguments of a string method.
struct MethodArgs<'a> {
    ops: &'a Ops,
    args: &'a Args,
}

impl<'a> MethodArgs<'a> {
    fn get(&self, i: usize, name: &str) -> Option<&'a Value> {
        let named = || self.args.named.iter().find(|(other, _)| other == name).map(|(_, value)| value);
        self.args.plain.get(i).or_else(named)
    }

    fn text(&self, i: usize, name: &str) -> Result<Option<&'a Text>, Fault> {
        match self.get(i, name) {
            None | Some(Value::None) => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(other) => Err(self.ops.fault(format!("needs a string, not {}", other.type_name()))),
        }
    }

    fn needed(&self, i: usize, name: &str) -> Result<&'a Text, Fault> {
        self.text(i, name)?.ok_or_else(|| self.ops.fault(format!("needs a {name}")))
    }

    fn count(&self, i: usize, name: &str) -> Option<usize> {
        usize::try_from(self.get(i, name)?.as_int()?).ok()
    }
}

#[allow(clippy::too_many_lines, reason = "one arm a method")]
fn string(ops: &Ops, text: &Text, name: &str, args: &Args) -> Result<Value, Fault> {
    let given = MethodArgs { ops, args };
    let s = text.as_str();
    ops.pay_bytes(s.len())?;
    let list = |parts: Vec<&str>| {
        ops.pay_bytes(parts.len() * 32)?;
        ops.list(parts.into_iter().map(|part| Value::Str(text.part(part))).collect())
    };
    let made = |out: String| ops.made(text.made(out));
    let all = |test: fn(char) -> bool| Ok(Value::Bool(!s.is_empty() && s.chars().all(test)));
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let chars = given.text(0, "chars")?;
            let cut = |c: char| chars.map_or_else(|| c.is_whitespace(), |chars| chars.as_str().contains(c));
            let part = match name {
                "strip" => s.trim_matches(cut),
                "lstrip" => s.trim_start_matches(cut),
                _ => s.trim_end_matches(cut),
            };
            Ok(Value::Str(text.part(part)))
        }
        "upper" => made(s.to_uppercase()),
        "lower" | "casefold" => made(s.to_lowercase()),
        "capitalize" => made(capitalized(s)),
        "title" => made(titled(s)),
        "swapcase" => {
            let swap = |c: char| {
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect::<String>() }
            };
            made(s.chars().map(swap).collect())
        }
        "expandtabs" => made(s.replace('\t', "        ")),
        "split" | "rsplit" => {
            let max = given.count(1, "maxsplit").unwrap_or(usize::MAX);
            let parts = match (given.text(0, "sep")?.map(Text::as_str), name) {
                (Some(""), _) => return Err(ops.fault("empty separator")),
                (Some(sep), "split") => s.splitn(max.saturating_add(1), sep).collect(),
                (Some(sep), _) => {
                    let mut parts: Vec<&str> = s.rsplitn(max.saturating_add(1), sep).collect();
                    parts.reverse();
                    parts
                }
                (None, "split") => words(s, max),
                (None, _) => last_words(s, max),
            };
            list(parts)
        }
        "splitlines" => {
            let keep = given.get(0, "keepends").is_some_and(Value::is_true);
            let lines = s.split_inclusive('\n');
            let bare = |line: &'_ str| line.trim_end_matches(['\n', '\r']).len();
            list(lines.map(|line| if keep { line } else { &line[..bare(line)] }).collect())
        }
        "partition" | "rpartition" => {
            let sep = given.needed(0, "separator")?;
            let found = if name == "partition" { s.split_once(sep.as_str()) } else { s.rsplit_once(sep.as_str()) };
            let parts = match found {
                Some((before, after)) => [text.part(before), sep.clone(), text.part(after)],
                None if name == "partition" => [text.clone(), Text::default(), Text::default()],
                None => [Text::default(), Text::default(), text.clone()],
            };
            ops.tuple(parts.map(Value::Str).to_vec())
        }
        "startswith" | "endswith" => {
            let affixes = match given.get(0, "prefix") {
                Some(Value::Str(affix)) => vec![affix.as_str()],
                Some(Value::List(list)) => list.items.iter().filter_map(Value::as_str).collect(),
                _ => return Err(ops.fault(format!("{name} needs a string"))),
            };
            let found = affixes.iter().any(|a| if name == "startswith" { s.starts_with(a) } else { s.ends_with(a) });
            Ok(Value::Bool(found))
        }
        "removeprefix" => Ok(Value::Str(text.part(s.strip_prefix(given.needed(0, "prefix")?.as_str()).unwrap_or(s)))),
        "removesuffix" => Ok(Value::Str(text.part(s.strip_suffix(given.needed(0, "suffix")?.as_str()).unwrap_or(s)))),
        "replace" => {
            let (old, new) = (given.needed(0, "old")?, given.needed(1, "new")?);
            let new = if text.markup { new.escaped() } else { new.clone() };
            let replaced = replace(ops, text, old.as_str(), &new, given.count(2, "count").unwrap_or(usize::MAX))?;
            Ok(Value::Str(replaced.with_markup(text.markup)))
        }
        "find" | "rfind" | "index" | "rindex" => {
            let part = given.needed(0, "substring")?.as_str();
            let at = if name.starts_with('r') { s.rfind(part) } else { s.find(part) };
            match at {
                Some(at) => Ok(int(s[..at].chars().count())),
                None if name.ends_with("find") => Ok(Value::Int(-1)),
                None => Err(ops.fault("substring not found")),
            }
        }
        "count" => {
            let part = given.needed(0, "substring")?.as_str();
            Ok(int(if part.is_empty() { s.chars().count() + 1 } else { s.matches(part).count() }))
        }
        "join" => {
            let items = ops.items(given.get(0, "iterable").ok_or_else(|| ops.fault("join needs a list"))?)?;
            let parts = items.items.iter().map(|item| match item {
                Value::Str(item) => Ok(if text.markup { item.escaped() } else { item.clone() }),
                other => Err(ops.fault(format!("join needs strings, not {}", other.type_name()))),
            });
            Ok(Value::Str(join(ops, text, &parts.collect::<Result<Vec<_>, _>>()?)?.with_markup(text.markup)))
        }
        "ljust" | "rjust" | "center" | "zfill" => justify(ops, text, name, &given),
        "format" => format_braces(ops, text, args),
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isspace" => all(char::is_whitespace),
        "isascii" => Ok(Value::Bool(s.is_ascii())),
        "isprintable" => Ok(Value::Bool(!s.chars().any(char::is_control))),
        "isupper" => Ok(Value::Bool(s.chars().any(char::is_uppercase) && !s.chars().any(char::is_lowercase))),
        "islower" => Ok(Value::Bool(s.chars().any(char::is_lowercase) && !s.chars().any(char::is_uppercase))),
        "istitle" => Ok(Value::Bool(s.chars().any(char::is_alphabetic) && titled(s) == s)),
        "isidentifier" => {
            let first = s.starts_with(|c: char| c.is_alphabetic() || c == '_');
            Ok(Value::Bool(first && s.chars().all(|c| c.is_alphanumeric() || c == '_')))
        }
        _ => Err(ops.fault(format!("strings have no method {name} here"))),
    }
}

pub(super) fn capitalized(s: &str) -> String {
    let mut chars = s.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
}

pub(super) fn titled(s: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn words(s: &str, max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = s.trim_start();
    while !rest.is_empty() {
        let cut = rest.find(char::is_whitespace).filter(|_| parts.len() < max);
        parts.push(&rest[..cut.unwrap_or(rest.len())]);
        rest = cut.map_or("", |at| rest[at..].trim_start());
    }
    parts
}

fn last_words(s: &str, max: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = s.trim_end();
    while !rest.is_empty() {
        let cut = rest.rfind(char::is_whitespace).filter(|_| parts.len() < max);
        let start = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        parts.push(&rest[start..]);
        rest = rest[..cut.unwrap_or(0)].trim_end();
    }
    parts.reverse();
    parts
}

/// `text` with at most `count` occurrences of `old` replaced by `new`.
pub(super) fn replace(ops: &Ops, text: &Text, old: &str, new: &Text, count: usize) -> Result<Text, Fault> {
    let mut parts = Vec::new();
    let mut done = 0;
    for (at, found) in text.as_str().match_indices(old).take(count) {
        parts.push(text.part(&text.as_str()[done..at]));
        parts.push(new.clone());
        done = at + found.len();
    }
    parts.push(text.part(&text.as_str()[done..]));
    ops.pay(parts.len())?;
    ops.concat(&parts)
}

pub(super) fn join(ops: &Ops, separator: &Text, parts: &[Text]) -> Result<Text, Fault> {
    let mut all = Vec::with_capacity(parts.len() * 2);
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            all.push(separator.clone());
        }
        all.push(part.clone());
    }
    ops.concat(&all)
}

fn justify(ops: &Ops, text: &Text, name: &str, given: &MethodArgs<'_>) -> Result<Value, Fault> {
    let width = given.count(0, "width").unwrap_or(0);
    let fill = given.text(1, "fillchar")?.map_or(" ", Text::as_str);
    let missing = width.saturating_sub(text.as_str().chars().count());
    ops.pay_bytes(missing.saturating_mul(fill.len()))?;
    if missing == 0 {
        return Ok(Value::Str(text.clone()));
    }
    let s = text.as_str();
    let out = match name {
        "ljust" => s.to_owned() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + s,
        "zfill" => {
            let (sign, digits) = s.split_at(usize::from(s.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        _ => {
            // Python puts the extra padding on the left if text and width are odd.
            let left = missing / 2 + (missing & width & 1);
            fill.repeat(left) + s + &fill.repeat(missing - left)
        }
    };
    Ok(Value::Str(text.made(out)))
}

/// Formats a number or text with `flags`, width and precision of `%` and `{:}`.
fn formatted(
    ops: &Ops,
    value: &Value,
    flags: &str,
    kind: char,
    width: usize,
    precision: Option<usize>,
) -> Result<Text, Fault> {
    ops.pay_bytes(width.saturating_add(precision.unwrap_or(0)))?;
    let text = ops.text(value)?;
    let number = value.as_number();
    let out = match kind {
        'd' | 'i' | 'u' => {
            let n = number.ok_or_else(|| ops.fault(format!("a number is required, not {}", value.type_name())))?;
            value.as_int().map_or_else(|| format!("{:.0}", n.trunc()), |n| n.to_string())
        }
        'f' | 'F' | 'e' | 'g' => {
            let x = number.ok_or_else(|| ops.fault(format!("a number is required, not {}", value.type_name())))?;
            match kind {
                'e' => format!("{x:.*e}", precision.unwrap_or(6)),
                'g' => value::float(x).trim_end_matches(".0").to_owned(),
                _ => format!("{x:.*}", precision.unwrap_or(6)),
            }
        }
        'x' => format!("{:x}", value.as_int().unwrap_or(0)),
        'X' => format!("{:X}", value.as_int().unwrap_or(0)),
        'o' => format!("{:o}", value.as_int().unwrap_or(0)),
        'r' => {
            let mut out = super::text::Builder::default();
            value.write(&mut out, true);
            out.finish().as_str().to_owned()
        }
        _ => text.as_str().chars().take(precision.unwrap_or(usize::MAX)).collect(),
    };
    let out = if flags.contains('+') && !out.starts_with('-') && number.is_some() { format!("+{out}") } else { out };
    let missing = width.saturating_sub(out.chars().count());
    let left = flags.contains(['-', '<']) || number.is_none() && !flags.contains(['>', '^']) && flags.contains('t');
    let padded = if missing == 0 {
        out
    } else if left {
        out + &" ".repeat(missing)
    } else if flags.contains('^') {
        " ".repeat(missing / 2) + &out + &" ".repeat(missing - missing / 2)
    } else if flags.contains('0') && number.is_some() {
        let (sign, digits) = out.split_at(usize::from(out.starts_with(['+', '-'])));
        format!("{sign}{}{digits}", "0".repeat(missing))
    } else {
        " ".repeat(missing) + &out
    };
    Ok(text.made(padded).with_markup(false))
}

fn number_at(spec: &str, at: &mut usize) -> Option<usize> {
    let digits = spec[*at..].bytes().take_while(u8::is_ascii_digit).count();
    let number = spec[*at..*at + digits].parse().ok();
    *at += digits;
    number.or((digits > 0).then_some(usize::MAX))
}

/// Python's `text % args`.
pub(super) fn percent(ops: &Ops, text: &Text, args: &[Value]) -> Result<Value, Fault> {
    let s = text.as_str();
    let mut parts = Vec::new();
    let (mut done, mut args) = (0, args.iter());
    while let Some(at) = s[done..].find('%').map(|at| done + at) {
        parts.push(text.part(&s[done..at]));
        let mut at = at + 1;
        let flags = s[at..].bytes().take_while(|c| b"-+ 0#".contains(c)).count();
        let flags = &s[at..at + flags];
        at += flags.len();
        let width = number_at(s, &mut at).unwrap_or(0);
        let precision = if s[at..].starts_with('.') {
            at += 1;
            Some(number_at(s, &mut at).unwrap_or(0))
        } else {
            None
        };
        let kind = s[at..].chars().next().ok_or_else(|| ops.fault("incomplete format"))?;
        done = at + kind.len_utf8();
        if kind == '%' {
            parts.push(Text::new("%"));
            continue;
        }
        let value = args.next().ok_or_else(|| ops.fault("not enough arguments for a format"))?;
        let value = formatted(ops, value, flags, kind, width, precision)?;
        parts.push(if text.markup { value.escaped() } else { value });
    }
    if args.next().is_some() {
        return Err(ops.fault("too many arguments for a format"));
    }
    parts.push(text.part(&s[done..]));
    Ok(Value::Str(ops.concat(&parts)?.with_markup(text.markup)))
}

/// Python's `text.format(...)`.
fn format_braces(ops: &Ops, text: &Text, args: &Args) -> Result<Value, Fault> {
    let s = text.as_str();
    let mut parts = Vec::new();
    let (mut done, mut next) = (0, 0);
    while let Some(at) = s[done..].find(['{', '}']).map(|at| done + at) {
        parts.push(text.part(&s[done..at]));
        let rest = &s[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            parts.push(text.part(&s[at..=at]));
            done = at + 2;
            continue;
        }
        let end = rest.find('}').filter(|_| rest.starts_with('{')).ok_or_else(|| ops.fault("a lone brace"))?;
        let (name, spec) = rest[1..end].split_once(':').unwrap_or((&rest[1..end], ""));
        let value = if name.is_empty() {
            next += 1;
            args.plain.get(next - 1)
        } else if let Ok(index) = name.parse::<usize>() {
            args.plain.get(index)
        } else {
            args.named.iter().find(|(other, _)| other == name).map(|(_, value)| value)
        };
        let value = value.ok_or_else(|| ops.fault("not enough arguments for a format"))?;
        let flags = spec.bytes().take_while(|c| b"<>^+-0".contains(c)).count();
        let mut place = flags;
        let width = number_at(spec, &mut place).unwrap_or(0);
        let precision = if spec[place..].starts_with('.') {
            place += 1;
            number_at(spec, &mut place)
        } else {
            None
        };
        let kind = spec[place..].chars().next().unwrap_or(if precision.is_some() { 'f' } else { 's' });
        let flags = format!("{}t", &spec[..flags]);
        let value = formatted(ops, value, &flags, kind, width, precision)?;
        parts.push(if text.markup { value.escaped() } else { value });
        done = at + end + 1;
    }
    parts.push(text.part(&s[done..]));
    Ok(Value::Str(ops.concat(&parts)?.with_markup(text.markup)))
}
