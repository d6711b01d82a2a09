//! Jinja's filters and tests.

use std::cmp::Ordering;

use super::ops::{Args, Ops};
use super::text::{Builder, Text};
use super::value::Value;
use super::{Fault, json, methods};

/// `value | name(args)`.
#[allow(clippy::too_many_lines, reason = "one arm a filter")]
pub(super) fn apply(ops: &Ops, name: &str, value: &Value, args: Args) -> Result<Value, Fault> {
    let first = args.plain.first();
    let named = |wanted: &str| args.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let text = || ops.text(value);
    match name {
        "tojson" => json::tojson(ops, value, &args),
        "trim" => {
            let text = Value::Str(text()?);
            methods::call(ops, &text, "strip", &args)
        }
        "upper" | "lower" | "capitalize" | "title" | "center" => {
            let text = Value::Str(text()?);
            methods::call(ops, &text, name, &args)
        }
        "string" => Ok(Value::Str(text()?)),
        "safe" => Ok(Value::Str(text()?.with_markup(true))),
        "escape" | "e" => ops.made(text()?.escaped()),
        "forceescape" => ops.made(text()?.escaped_again()),
        "replace" => {
            let argument = |i: usize| args.plain.get(i).map_or_else(|| Ok(Text::default()), |value| ops.text(value));
            let (old, new) = (argument(0)?, argument(1)?);
            let count = args.plain.get(2).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok());
            let plain = text()?.with_markup(false);
            Ok(Value::Str(methods::replace(ops, &plain, old.as_str(), &new, count.unwrap_or(usize::MAX))?))
        }
        "indent" => indent(ops, &text()?, &args),
        "format" => methods::percent(ops, &text()?, &args.plain),
        "urlencode" => {
            let safe = |b: u8| b.is_ascii_alphanumeric() || b"_.-~/".contains(&b);
            let text = text()?;
            let out: String = text
                .as_str()
                .bytes()
                .map(|b| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
                .collect();
            ops.made(text.made(out))
        }
        "wordcount" => Ok(Value::Int(i64::try_from(text()?.as_str().split_whitespace().count()).unwrap_or(i64::MAX))),
        "length" | "count" => length(ops, value),
        "default" | "d" => {
            let falsy = args.plain.get(1).or(named("boolean")).is_some_and(Value::is_true) && !value.is_true();
            let default = first.or(named("default_value")).cloned().unwrap_or_else(|| Value::str(""));
            Ok(if matches!(value, Value::Undefined(_)) || falsy { default } else { value.clone() })
        }
        "list" => Ok(ops.list(ops.items(value)?.items.clone())?),
        "first" => Ok(ops.items(value)?.items.first().cloned().unwrap_or_else(|| Value::undefined("first"))),
        "last" => Ok(ops.items(value)?.items.last().cloned().unwrap_or_else(|| Value::undefined("last"))),
        "reverse" => match value {
            Value::Str(text) => ops.made(text.made(text.as_str().chars().rev().collect::<String>())),
            other => {
                let items = ops.items(other)?;
                ops.list(items.items.iter().rev().cloned().collect())
            }
        },
        "join" => {
            let items = ops.items(value)?;
            let attribute = args.plain.get(1).or(named("attribute")).cloned();
            let mut parts = Vec::new();
            for item in &items.items {
                let item = attribute.as_ref().map_or_else(|| Ok(item.clone()), |path| lookup(ops, item, path))?;
                parts.push(ops.text(&item)?);
            }
            let separator = first.or(named("d")).map_or_else(|| Ok(Text::default()), |value| ops.text(value))?;
            Ok(Value::Str(methods::join(ops, &separator, &parts)?))
        }
        "items" => match value {
            Value::Dict(_) => methods::call(ops, value, "items", &Args::default()),
            Value::Undefined(_) => ops.list(Vec::new()),
            other => Err(ops.fault(format!("{} has no items", other.type_name()))),
        },
        "dictsort" => dictsort(ops, value, &args),
        "sort" | "unique" | "min" | "max" | "groupby" => ordered(ops, name, value, &args),
        "sum" => {
            let mut sum = args.plain.get(1).or(named("start")).cloned().unwrap_or(Value::Int(0));
            for item in &ops.items(value)?.items {
                let item = match first.or(named("attribute")) {
                    Some(path) if !matches!(path, Value::None) => lookup(ops, item, path)?,
                    _ => item.clone(),
                };
                sum = match (sum.as_int().zip(item.as_int()), sum.as_number().zip(item.as_number())) {
                    (Some((a, b)), _) => Value::Int(a.saturating_add(b)),
                    (None, Some((a, b))) => Value::Float(a + b),
                    _ => return Err(ops.fault("a sum of what are no numbers")),
                };
            }
            Ok(sum)
        }
        "map" => map(ops, value, args),
        "select" | "reject" | "selectattr" | "rejectattr" => select(ops, name, value, &args),
        "batch" | "slice" => batch(ops, name, value, &args),
        "attr" => {
            let name = first.and_then(Value::as_str).ok_or_else(|| ops.fault("attr needs a name"))?;
            ops.attribute(value, name)
        }
        "int" => Ok(Value::Int(whole(value).or(first.and_then(Value::as_int)).unwrap_or(0))),
        "float" => {
            let number = value.as_number().or_else(|| value.as_str()?.trim().parse().ok());
            Ok(Value::Float(number.or(first.and_then(Value::as_number)).unwrap_or(0.0)))
        }
        "abs" => match value {
            Value::Float(x) => Ok(Value::Float(x.abs())),
            other => {
                other.as_int().map(|n| Value::Int(n.saturating_abs())).ok_or_else(|| ops.fault("no absolute value"))
            }
        },
        "round" => {
            let digits = first.and_then(Value::as_int).unwrap_or(0);
            let method = args.plain.get(1).or(named("method")).and_then(Value::as_str);
            let x = value.as_number().ok_or_else(|| ops.fault("round needs a number"))?;
            Ok(Value::Float(rounded(x, digits, method)))
        }
        other => Err(ops.fault(format!("no filter named {other}"))),
    }
}

/// A whole number from a number or its digits.
#[allow(clippy::cast_possible_truncation, reason = "saturates")]
fn whole(value: &Value) -> Option<i64> {
    let text = value.as_str().map(str::trim);
    let number = value.as_number().or_else(|| text?.parse().ok());
    value.as_int().or_else(|| text?.parse().ok()).or_else(|| number.map(|x| x as i64))
}

fn rounded(x: f64, digits: i64, method: Option<&str>) -> f64 {
    let scale = 10f64.powi(i32::try_from(digits.clamp(-300, 300)).unwrap_or(0));
    let scaled = match method {
        Some("ceil") => (x * scale).ceil(),
        Some("floor") => (x * scale).floor(),
        _ => (x * scale).round_ties_even(),
    };
    scaled / scale
}

fn length(ops: &Ops, value: &Value) -> Result<Value, Fault> {
    let n = match value {
        Value::Str(text) => {
            ops.pay(text.len() / 16)?;
            text.as_str().chars().count()
        }
        Value::List(list) => list.items.len(),
        Value::Dict(dict) => dict.entries.len(),
        Value::Undefined(_) => 0,
        other => return Err(ops.fault(format!("{} has no length", other.type_name()))),
    };
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

/// The value at a path such as `function.name`, or at an index.
fn lookup(ops: &Ops, value: &Value, path: &Value) -> Result<Value, Fault> {
    let Value::Str(path) = path else { return ops.item(value, path) };
    path.as_str().split('.').try_fold(value.clone(), |value, part| {
        let key = part.parse().map_or_else(|_| Value::str(part), Value::Int);
        ops.item(&value, &key)
    })
}

fn indent(ops: &Ops, text: &Text, args: &Args) -> Result<Value, Fault> {
    let named = |wanted: &str| args.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let width = match args.plain.first().or(named("width")) {
        Some(Value::Str(width)) => width.clone(),
        Some(other) => {
            let n = other.as_int().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            ops.pay_bytes(n)?;
            Text::new(" ".repeat(n))
        }
        None => Text::new("    "),
    };
    let first = args.plain.get(1).or(named("first")).is_some_and(Value::is_true);
    let blank = args.plain.get(2).or(named("blank")).is_some_and(Value::is_true);
    let lines = text.as_str().matches('\n').count() + 1;
    ops.pay_bytes(lines.saturating_mul(width.len()).saturating_add(text.len()))?;
    let mut out = Builder::default();
    for (i, line) in text.as_str().split('\n').enumerate() {
        if i > 0 {
            out.push_str("\n");
        }
        if (i > 0 || first) && (blank || !line.is_empty()) {
            out.push(&width);
        }
        out.push(&text.part(line));
    }
    Ok(Value::Str(out.finish().with_markup(text.markup)))
}

/// A sort key: text in lower case, unless sorting is case-sensitive.
fn sort_key(ops: &Ops, value: &Value, case_sensitive: bool) -> Result<Value, Fault> {
    match value {
        Value::Str(text) if !case_sensitive => ops.made(text.made(text.as_str().to_lowercase())),
        other => Ok(other.clone()),
    }
}

/// Sorts by keys, with an error if they cannot be compared.
fn sort(ops: &Ops, pairs: &mut [(Value, Value)]) -> Result<(), Fault> {
    let mut failed = Ok(());
    pairs.sort_by(|a, b| {
        if failed.is_err() {
            return Ordering::Equal;
        }
        ops.compare(&a.0, &b.0).unwrap_or_else(|fault| {
            failed = Err(fault);
            Ordering::Equal
        })
    });
    failed
}

fn dictsort(ops: &Ops, value: &Value, args: &Args) -> Result<Value, Fault> {
    let Value::Dict(dict) = value else { return Err(ops.fault("dictsort needs a dictionary")) };
    let named = |wanted: &str| args.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let case_sensitive = args.plain.first().or(named("case_sensitive")).is_some_and(Value::is_true);
    let by_value = args.plain.get(1).or(named("by")).and_then(Value::as_str) == Some("value");
    let mut pairs = Vec::new();
    for (key, value) in &dict.entries {
        let by = sort_key(ops, if by_value { value } else { key }, case_sensitive)?;
        pairs.push((by, ops.tuple(vec![key.clone(), value.clone()])?));
    }
    sort(ops, &mut pairs)?;
    if args.plain.get(2).or(named("reverse")).is_some_and(Value::is_true) {
        pairs.reverse();
    }
    ops.list(pairs.into_iter().map(|(_, pair)| pair).collect())
}

/// `sort`, `unique`, `min`, `max` and `groupby`, which compare items or one of their attributes.
fn ordered(ops: &Ops, name: &str, value: &Value, args: &Args) -> Result<Value, Fault> {
    let named = |wanted: &str| args.named.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let positional = |i: usize| args.plain.get(i);
    let (attribute, case_sensitive) = match name {
        "sort" => (positional(2).or(named("attribute")), positional(1).or(named("case_sensitive"))),
        "groupby" => (positional(0).or(named("attribute")), named("case_sensitive")),
        _ => (positional(1).or(named("attribute")), positional(0).or(named("case_sensitive"))),
    };
    let case_sensitive = case_sensitive.is_some_and(Value::is_true);
    let mut pairs = Vec::new();
    for item in &ops.items(value)?.items {
        let by = match attribute {
            Some(path) if !matches!(path, Value::None) => lookup(ops, item, path)?,
            _ => item.clone(),
        };
        pairs.push((sort_key(ops, &by, case_sensitive)?, item.clone()));
    }
    match name {
        "unique" => {
            let mut kept: Vec<(Value, Value)> = Vec::new();
            'items: for pair in pairs {
                for (other, _) in &kept {
                    if ops.equal(other, &pair.0)? {
                        continue 'items;
                    }
                }
                kept.push(pair);
            }
            ops.list(kept.into_iter().map(|(_, item)| item).collect())
        }
        "min" | "max" => {
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let mut best: Option<(Value, Value)> = None;
            for pair in pairs {
                let better = match &best {
                    Some((key, _)) => ops.compare(&pair.0, key)? == wanted,
                    None => true,
                };
                if better {
                    best = Some(pair);
                }
            }
            Ok(best.map_or_else(|| Value::undefined(name), |(_, item)| item))
        }
        "groupby" => {
            sort(ops, &mut pairs)?;
            let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
            for (key, item) in pairs {
                match groups.last_mut() {
                    Some((last, items)) if ops.equal(last, &key)? => items.push(item),
                    _ => groups.push((key, vec![item])),
                }
            }
            let groups = groups.into_iter().map(|(key, items)| {
                let items = ops.list(items)?;
                ops.dict(vec![
                    (Value::str("grouper"), key.clone()),
                    (Value::str("list"), items.clone()),
                    (Value::Int(0), key),
                    (Value::Int(1), items),
                ])
            });
            ops.list(groups.collect::<Result<_, _>>()?)
        }
        _ => {
            sort(ops, &mut pairs)?;
            if positional(0).or(named("reverse")).is_some_and(Value::is_true) {
                pairs.reverse();
            }
            ops.list(pairs.into_iter().map(|(_, item)| item).collect())
        }
    }
}

fn map(ops: &Ops, value: &Value, mut args: Args) -> Result<Value, Fault> {
    let items = if value.is_true() { ops.items(value)? } else { ops.items(&Value::undefined(""))? };
    let attribute = args.named.iter().find(|(name, _)| name == "attribute").map(|(_, path)| path.clone());
    let mut out = Vec::new();
    if let Some(path) = attribute {
        let default = args.named.iter().find(|(name, _)| name == "default").map(|(_, value)| value.clone());
        for item in &items.items {
            let found = lookup(ops, item, &path)?;
            let missing = matches!(found, Value::Undefined(_));
            out.push(default.clone().filter(|_| missing).unwrap_or(found));
        }
        return ops.list(out);
    }
    if args.plain.is_empty() {
        return Err(ops.fault("map needs a filter or an attribute"));
    }
    let filter = ops.text(&args.plain.remove(0))?;
    for item in &items.items {
        let args = Args { plain: args.plain.clone(), named: args.named.clone() };
        out.push(apply(ops, filter.as_str(), item, args)?);
    }
    ops.list(out)
}

fn select(ops: &Ops, name: &str, value: &Value, args: &Args) -> Result<Value, Fault> {
    let by_attribute = name.ends_with("attr");
    let wanted = name.starts_with("select");
    // Jinja treats empty values, including `none`, as empty lists.
    let items = if value.is_true() { ops.items(value)? } else { ops.items(&Value::undefined(""))? };
    let (path, rest) = if by_attribute {
        let path = args.plain.first().ok_or_else(|| ops.fault(format!("{name} needs an attribute")))?;
        (Some(path), &args.plain[1..])
    } else {
        (None, args.plain.as_slice())
    };
    let mut out = Vec::new();
    for item in &items.items {
        let subject = path.map_or_else(|| Ok(item.clone()), |path| lookup(ops, item, path))?;
        let holds = match rest.split_first() {
            Some((name, args)) => {
                let name = ops.text(name)?;
                test(ops, name.as_str(), &subject, args)?
            }
            None => subject.is_true(),
        };
        if holds == wanted {
            out.push(item.clone());
        }
    }
    ops.list(out)
}

fn batch(ops: &Ops, name: &str, value: &Value, args: &Args) -> Result<Value, Fault> {
    let items = ops.items(value)?;
    let n = args.plain.first().and_then(Value::as_int).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let n = n.ok_or_else(|| ops.fault(format!("{name} needs a number over 0")))?;
    let fill = args.plain.get(1);
    ops.pay(n)?;
    let mut groups: Vec<Vec<Value>> = if name == "batch" {
        items.items.chunks(n).map(<[Value]>::to_vec).collect()
    } else {
        let (each, more) = (items.items.len() / n, items.items.len() % n);
        let mut rest = items.items.as_slice();
        let mut groups = Vec::new();
        for i in 0..n {
            let (group, after) = rest.split_at(each + usize::from(i < more));
            groups.push(group.to_vec());
            rest = after;
        }
        groups
    };
    if let (Some(fill), Some(last), "batch") = (fill, groups.last_mut(), name) {
        ops.pay_bytes(n.saturating_mul(size_of::<Value>()))?;
        last.resize(n, fill.clone());
    }
    let groups = groups.into_iter().map(|group| ops.list(group));
    ops.list(groups.collect::<Result<_, _>>()?)
}

/// `value is name(args)`.
pub(super) fn test(ops: &Ops, name: &str, value: &Value, args: &[Value]) -> Result<bool, Fault> {
    let argument = || args.first().ok_or_else(|| ops.fault(format!("{name} needs an argument")));
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(value, Value::Str(_) | Value::List(_) | Value::Dict(_) | Value::Undefined(_)),
        "iterable" => {
            matches!(value, Value::Str(_) | Value::List(_) | Value::Dict(_) | Value::Loop(_) | Value::Undefined(_))
        }
        "number" => value.as_number().is_some(),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "callable" => matches!(value, Value::Macro(_) | Value::Function(_) | Value::Method(_)),
        "escaped" => matches!(value, Value::Str(text) if text.markup),
        "upper" => {
            ops.text(value)?.as_str().chars().any(char::is_uppercase)
                && !ops.text(value)?.as_str().chars().any(char::is_lowercase)
        }
        "lower" => {
            ops.text(value)?.as_str().chars().any(char::is_lowercase)
                && !ops.text(value)?.as_str().chars().any(char::is_uppercase)
        }
        "odd" => value.as_int().is_some_and(|n| n % 2 != 0),
        "even" => value.as_int().is_some_and(|n| n % 2 == 0),
        "divisibleby" => {
            let n = argument()?.as_int().filter(|n| *n != 0);
            value.as_int().zip(n).is_some_and(|(value, n)| value.checked_rem(n) == Some(0))
        }
        "in" => ops.holds(value, "in", argument()?)?,
        "sameas" => ops.equal(value, argument()?)? && value.type_name() == argument()?.type_name(),
        "eq" | "equalto" | "==" => ops.holds(value, "==", argument()?)?,
        "ne" | "!=" => ops.holds(value, "!=", argument()?)?,
        "lt" | "lessthan" | "<" => ops.holds(value, "<", argument()?)?,
        "le" | "<=" => ops.holds(value, "<=", argument()?)?,
        "gt" | "greaterthan" | ">" => ops.holds(value, ">", argument()?)?,
        "ge" | ">=" => ops.holds(value, ">=", argument()?)?,
        "startingwith" => value.as_str().zip(argument()?.as_str()).is_some_and(|(a, b)| a.starts_with(b)),
        "endingwith" => value.as_str().zip(argument()?.as_str()).is_some_and(|(a, b)| a.ends_with(b)),
        other => return Err(ops.fault(format!("no test named {other}"))),
    })
}
