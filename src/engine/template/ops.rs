//! Operations on values. Every operation that takes time or memory is deducted from a budget before it is done.

use std::cell::Cell;
use std::rc::Rc;

use super::Fault;
use super::method_names::has_method;
use super::text::{Builder, Text};
use super::value::{self, Loop, TooDeep, Value};

/// The arguments of a call.
#[derive(Default)]
pub(super) struct Args {
    pub(super) plain: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

/// The budget of a template.
pub(super) struct Budget {
    /// Steps: one for each expression, item, and sixteen bytes.
    pub(super) steps: u64,
    /// Bytes of all texts and lists that are created.
    pub(super) bytes: u64,
}

/// The operations, with the remaining budget.
pub(super) struct Ops {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    /// The current line.
    pub(super) line: Cell<usize>,
    /// Seconds since 1970.
    pub(super) now: i64,
}

impl Ops {
    pub(super) fn new(budget: &Budget, now: i64) -> Self {
        Self { steps: Cell::new(budget.steps), bytes: Cell::new(budget.bytes), line: Cell::new(1), now }
    }

    /// An error at the current line.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { line: self.line.get(), message: message.into() }
    }

    /// Deducts steps.
    pub(super) fn pay(&self, steps: usize) -> Result<(), Fault> {
        match self.steps.get().checked_sub(steps as u64) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => Err(self.fault("takes too many steps")),
        }
    }

    /// Deducts the bytes of a text or list before it is created.
    pub(super) fn pay_bytes(&self, bytes: usize) -> Result<(), Fault> {
        self.pay(bytes / 16)?;
        match self.bytes.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => Err(self.fault("makes texts that are too long")),
        }
    }

    pub(super) fn equal(&self, a: &Value, b: &Value) -> Result<bool, Fault> {
        value::equal(a, b, &mut |n| self.pay(n))
    }

    pub(super) fn compare(&self, a: &Value, b: &Value) -> Result<std::cmp::Ordering, Fault> {
        let order = value::compare(a, b, &mut |n| self.pay(n))?;
        order.ok_or_else(|| self.fault(format!("cannot compare {} with {}", a.type_name(), b.type_name())))
    }

    pub(super) fn list(&self, items: Vec<Value>) -> Result<Value, Fault> {
        self.pay_bytes(items.len() * size_of::<Value>())?;
        Value::list(items).map_err(|TooDeep| self.too_deep())
    }

    pub(super) fn tuple(&self, items: Vec<Value>) -> Result<Value, Fault> {
        self.pay_bytes(items.len() * size_of::<Value>())?;
        Value::tuple(items).map_err(|TooDeep| self.too_deep())
    }

    /// A dictionary, in which later entries replace earlier ones.
    pub(super) fn dict(&self, entries: Vec<(Value, Value)>) -> Result<Value, Fault> {
        self.pay_bytes(entries.len() * 2 * size_of::<Value>())?;
        let mut kept: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if matches!(&key, Value::List(list) if !list.is_tuple) || matches!(key, Value::Dict(_)) {
                return Err(self.fault(format!("a {} cannot be a key", key.type_name())));
            }
            let mut place = None;
            for (i, (other, _)) in kept.iter().enumerate() {
                if self.equal(other, &key)? {
                    place = Some(i);
                    break;
                }
            }
            match place {
                Some(i) => kept[i].1 = value,
                None => kept.push((key, value)),
            }
        }
        Value::dict(kept).map_err(|TooDeep| self.too_deep())
    }

    fn too_deep(&self) -> Fault {
        self.fault(format!("more than {} values inside each other", value::MAX_DEPTH))
    }

    /// `str(value)`, deducted from the budget.
    pub(super) fn text(&self, value: &Value) -> Result<Text, Fault> {
        if let Value::Str(text) = value {
            return Ok(text.clone());
        }
        value::weigh(value, &mut |n| self.pay_bytes(n * 16))?;
        Ok(value.to_text())
    }

    /// A new text, which is deducted after it is created, because its length is about that of existing text.
    pub(super) fn made(&self, text: Text) -> Result<Value, Fault> {
        self.pay_bytes(text.len())?;
        Ok(Value::Str(text))
    }

    pub(super) fn concat(&self, parts: &[Text]) -> Result<Text, Fault> {
        self.pay_bytes(parts.iter().map(Text::len).sum())?;
        let mut out = Builder::default();
        parts.iter().for_each(|part| out.push(part));
        Ok(out.finish())
    }

    /// The items of a list, the keys of a dictionary, the characters of a text.
    pub(super) fn items(&self, value: &Value) -> Result<Rc<value::List>, Fault> {
        let items = match value {
            Value::List(list) => {
                self.pay(list.items.len())?;
                return Ok(list.clone());
            }
            Value::Dict(dict) => dict.entries.iter().map(|(key, _)| key.clone()).collect(),
            Value::Str(text) => {
                // Each character becomes a text.
                self.pay_bytes(text.len() * 128)?;
                let chars = text.as_str().char_indices();
                chars.map(|(at, c)| Value::Str(text.part(&text.as_str()[at..at + c.len_utf8()]))).collect()
            }
            Value::Undefined(_) => Vec::new(),
            other => return Err(self.fault(format!("cannot iterate over {}", other.type_name()))),
        };
        match self.list(items)? {
            Value::List(list) => Ok(list),
            _ => Err(self.fault("cannot iterate")),
        }
    }

    /// `value.name`: a Python method, or the value stored under that name.
    pub(super) fn attribute(&self, value: &Value, name: &str) -> Result<Value, Fault> {
        if has_method(value, name) {
            return Ok(Value::Method(Rc::new((value.clone(), name.to_owned()))));
        }
        match value {
            Value::Undefined(of) => Err(self.fault(undefined(of, name))),
            Value::Dict(dict) => {
                let key = Value::str(name);
                let found = value::find(dict, &key, &mut |n| self.pay(n))?;
                Ok(found.cloned().unwrap_or_else(|| Value::undefined(name)))
            }
            Value::Namespace(values) => {
                let values = values.borrow();
                let found = values.iter().find(|(other, _)| other == name);
                Ok(found.map_or_else(|| Value::undefined(name), |(_, value)| value.clone()))
            }
            Value::Loop(state) => Ok(loop_attribute(&state.borrow(), name)),
            Value::Macro(function) if name == "name" => Ok(Value::str(function.name.as_str())),
            _ => Ok(Value::undefined(name)),
        }
    }

    /// `value[key]`.
    pub(super) fn item(&self, value: &Value, key: &Value) -> Result<Value, Fault> {
        let at = |len: usize| {
            let index = key.as_int()?;
            let index = if index < 0 { index + i64::try_from(len).ok()? } else { index };
            usize::try_from(index).ok().filter(|index| *index < len)
        };
        let missing = || Value::undefined("");
        match value {
            Value::Undefined(of) => Err(self.fault(undefined(of, self.text(key)?.as_str()))),
            Value::Dict(dict) => {
                if let Some(found) = value::find(dict, key, &mut |n| self.pay(n))? {
                    return Ok(found.clone());
                }
                key.as_str().map_or_else(|| Ok(missing()), |name| self.attribute(value, name))
            }
            Value::List(list) if key.as_int().is_some() => {
                Ok(at(list.items.len()).map_or_else(missing, |at| list.items[at].clone()))
            }
            Value::Str(text) if key.as_int().is_some() => {
                self.pay(text.len() / 16)?;
                let len = text.as_str().chars().count();
                let found = at(len).and_then(|at| text.as_str().char_indices().nth(at));
                Ok(found.map_or_else(missing, |(at, c)| Value::Str(text.part(&text.as_str()[at..at + c.len_utf8()]))))
            }
            _ => key.as_str().map_or_else(|| Ok(missing()), |name| self.attribute(value, name)),
        }
    }

    /// `value[start:end:step]`.
    pub(super) fn slice(&self, value: &Value, [start, end, step]: [Option<i64>; 3]) -> Result<Value, Fault> {
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(self.fault("a slice cannot have steps of 0"));
        }
        let indices = |len: usize| -> Vec<usize> {
            let n = i64::try_from(len).unwrap_or(i64::MAX);
            let clamp = |i: i64, low: i64, high: i64| (if i < 0 { i.saturating_add(n) } else { i }).clamp(low, high);
            let (mut at, end) = if step > 0 {
                (clamp(start.unwrap_or(0), 0, n), clamp(end.unwrap_or(n), 0, n))
            } else {
                (clamp(start.unwrap_or(n - 1), -1, n - 1), end.map_or(-1, |end| clamp(end, -1, n - 1)))
            };
            let mut found = Vec::new();
            while if step > 0 { at < end } else { at > end } {
                found.extend(usize::try_from(at));
                at = at.saturating_add(step);
            }
            found
        };
        match value {
            Value::List(list) => {
                self.pay_bytes(list.items.len() * size_of::<Value>())?;
                let items = indices(list.items.len()).into_iter().map(|i| list.items[i].clone()).collect();
                if list.is_tuple { self.tuple(items) } else { self.list(items) }
            }
            Value::Str(text) => {
                self.pay_bytes(text.len() * 9)?;
                let places: Vec<(usize, char)> = text.as_str().char_indices().collect();
                let found = indices(places.len());
                if step == 1 {
                    let (Some(first), Some(last)) = (found.first(), found.last()) else {
                        return Ok(Value::Str(text.part(&text.as_str()[..0])));
                    };
                    let end = places[*last].0 + places[*last].1.len_utf8();
                    return Ok(Value::Str(text.part(&text.as_str()[places[*first].0..end])));
                }
                Ok(Value::Str(text.made(found.into_iter().map(|i| places[i].1).collect::<String>())))
            }
            Value::Undefined(of) => Err(self.fault(undefined(of, "[:]"))),
            other => Err(self.fault(format!("{} cannot be sliced", other.type_name()))),
        }
    }

    pub(super) fn holds(&self, a: &Value, op: &str, b: &Value) -> Result<bool, Fault> {
        Ok(match op {
            "==" => self.equal(a, b)?,
            "!=" => !self.equal(a, b)?,
            "in" => self.contains(b, a)?,
            "not in" => !self.contains(b, a)?,
            _ => {
                let order = self.compare(a, b)?;
                match op {
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                }
            }
        })
    }

    fn contains(&self, container: &Value, item: &Value) -> Result<bool, Fault> {
        match (container, item) {
            (Value::Str(text), Value::Str(part)) => {
                self.pay(text.len() / 16 + 1)?;
                Ok(text.as_str().contains(part.as_str()))
            }
            (Value::Dict(dict), key) => Ok(value::find(dict, key, &mut |n| self.pay(n))?.is_some()),
            (Value::List(list), item) => {
                for other in &list.items {
                    if self.equal(other, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Undefined(_), _) => Ok(false),
            _ => Err(self.fault(format!("{} is never in {}", item.type_name(), container.type_name()))),
        }
    }
}

fn undefined(of: &str, name: &str) -> String {
    if of.is_empty() {
        format!("no {name} in what is undefined")
    } else {
        format!("{of} is undefined, so it has no {name}")
    }
}

fn loop_attribute(state: &Loop, name: &str) -> Value {
    let (index, len) = (state.index, state.items.items.len());
    let int = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let item = |at: Option<usize>| {
        at.and_then(|at| state.items.items.get(at)).cloned().unwrap_or_else(|| Value::undefined(name))
    };
    match name {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(len - index),
        "revindex0" => int(len - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == len),
        "length" => int(len),
        "previtem" => item(index.checked_sub(1)),
        "nextitem" => item(Some(index + 1)),
        "depth" => Value::Int(1),
        "depth0" => Value::Int(0),
        _ => Value::undefined(name),
    }
}
