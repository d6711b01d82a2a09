//! The values of a template, printed as in Python.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::Value as Json;

use super::parser::Node;
use super::text::{Builder, Text};

/// Maximum nesting of lists and dictionaries, since printing and comparing them needs stack.
pub(super) const MAX_DEPTH: usize = 100;

#[derive(Clone)]
pub(super) enum Value {
    /// An undefined value, with its name.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Text),
    List(Rc<List>),
    Dict(Rc<Dict>),
    Namespace(Rc<RefCell<Vec<(String, Value)>>>),
    Macro(Rc<Callable>),
    /// A function of the engine.
    Function(&'static str),
    /// A method that is named but not called: `d.items`.
    Method(Rc<(Value, String)>),
    Loop(Rc<RefCell<Loop>>),
}

/// A list or a tuple.
pub(super) struct List {
    pub(super) items: Vec<Value>,
    pub(super) is_tuple: bool,
    depth: usize,
}

/// A dictionary in insertion order.
pub(super) struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    depth: usize,
}

/// A macro.
pub(super) struct Callable {
    pub(super) name: String,
    /// Names, and defaults as they were when the macro was defined.
    pub(super) params: Vec<(String, Option<Value>)>,
    pub(super) body: std::sync::Arc<Vec<Node>>,
    /// The value of `caller` in the macro.
    pub(super) caller: Option<Value>,
}

/// The state of a loop.
pub(super) struct Loop {
    pub(super) items: Rc<List>,
    pub(super) index: usize,
    pub(super) last_changed: Option<Value>,
}

/// Values are nested too deeply.
pub(super) struct TooDeep;

impl Value {
    pub(super) fn str(text: impl Into<Rc<str>>) -> Self {
        Self::Str(Text::new(text))
    }

    pub(super) fn undefined(name: &str) -> Self {
        Self::Undefined(name.into())
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(list) => list.depth,
            Self::Dict(dict) => dict.depth,
            Self::Method(method) => method.0.depth() + 1,
            _ => 0,
        }
    }

    /// Whether it contains a namespace: a namespace must not contain itself.
    pub(super) fn holds_namespace(&self) -> bool {
        match self {
            Self::Namespace(_) => true,
            Self::List(list) => list.depth >= NAMESPACE,
            Self::Dict(dict) => dict.depth >= NAMESPACE,
            Self::Method(method) => method.0.holds_namespace(),
            Self::Macro(_) | Self::Loop(_) => true,
            _ => false,
        }
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Self, TooDeep> {
        Self::sequence(items, false)
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Self, TooDeep> {
        Self::sequence(items, true)
    }

    fn sequence(items: Vec<Value>, is_tuple: bool) -> Result<Self, TooDeep> {
        let depth = depth(items.iter())?;
        Ok(Self::List(Rc::new(List { items, is_tuple, depth })))
    }

    /// A dictionary of these entries, whose keys must differ.
    pub(super) fn dict(entries: Vec<(Value, Value)>) -> Result<Self, TooDeep> {
        let depth = depth(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Self::Dict(Rc::new(Dict { entries, depth })))
    }

    /// Converts JSON; its texts are untrusted if `untrusted` is set.
    pub(super) fn from_json(json: &Json, untrusted: bool) -> Result<Self, TooDeep> {
        let text = |text: &str| Self::Str(if untrusted { Text::untrusted(text) } else { Text::new(text) });
        Ok(match json {
            Json::Null => Self::None,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => n.as_i64().map_or_else(|| Self::Float(n.as_f64().unwrap_or(f64::NAN)), Self::Int),
            Json::String(s) => text(s),
            Json::Array(items) => {
                Self::list(items.iter().map(|item| Self::from_json(item, untrusted)).collect::<Result<_, _>>()?)?
            }
            Json::Object(map) => {
                let entry = |(key, item): (&String, &Json)| Ok((text(key), Self::from_json(item, untrusted)?));
                Self::dict(map.iter().map(entry).collect::<Result<_, _>>()?)?
            }
        })
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Str(text) => text.len() > 0,
            Self::List(list) => !list.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text.as_str()) } else { None }
    }

    /// The value as an integer; booleans are 0 and 1.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "as Python does")]
    pub(super) fn as_number(&self) -> Option<f64> {
        if let Self::Float(x) = self { Some(*x) } else { self.as_int().map(|n| n as f64) }
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(list) if list.is_tuple => "tuple",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "namespace",
            Self::Macro(_) | Self::Function(_) => "function",
            Self::Method(_) => "method",
            Self::Loop(_) => "loop",
        }
    }

    /// The text of `str(value)`.
    pub(super) fn to_text(&self) -> Text {
        if let Self::Str(text) = self {
            return text.clone();
        }
        let mut out = Builder::default();
        self.write(&mut out, false);
        out.finish()
    }

    /// Appends `repr(value)` if `quoted`, otherwise `str(value)`.
    pub(super) fn write(&self, out: &mut Builder, quoted: bool) {
        match self {
            Self::Undefined(_) => out.push_str(if quoted { "Undefined" } else { "" }),
            Self::None => out.push_str("None"),
            Self::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
            Self::Int(n) => out.push_str(&n.to_string()),
            Self::Float(x) => out.push_str(&float(*x)),
            Self::Str(text) if quoted => out.push(&quoted_text(text)),
            Self::Str(text) => out.push(text),
            Self::List(list) => {
                out.push_str(if list.is_tuple { "(" } else { "[" });
                for (i, item) in list.items.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    item.write(out, true);
                }
                out.push_str(match (list.is_tuple, list.items.len()) {
                    (true, 1) => ",)",
                    (true, _) => ")",
                    (false, _) => "]",
                });
            }
            Self::Dict(dict) => write_entries(out, dict.entries.iter().map(|(key, value)| (key.clone(), value))),
            Self::Namespace(values) => {
                out.push_str("<Namespace ");
                let values = values.borrow();
                write_entries(out, values.iter().map(|(name, value)| (Self::str(name.as_str()), value)));
                out.push_str(">");
            }
            Self::Macro(_) => out.push_str("<Macro>"),
            Self::Function(name) => out.push_str(&format!("<function {name}>")),
            Self::Method(method) => {
                out.push_str(&format!("<built-in method {} of {} object>", method.1, method.0.type_name()));
            }
            Self::Loop(_) => out.push_str("<LoopContext>"),
        }
    }
}

/// Added to the depth of values that contain a namespace.
const NAMESPACE: usize = 1 << 20;

fn depth<'v>(values: impl Iterator<Item = &'v Value>) -> Result<usize, TooDeep> {
    let mut deepest = 0;
    let mut namespace = 0;
    for value in values {
        deepest = deepest.max(value.depth() % NAMESPACE);
        if value.holds_namespace() {
            namespace = NAMESPACE;
        }
    }
    if deepest >= MAX_DEPTH { Err(TooDeep) } else { Ok(deepest + 1 + namespace) }
}

fn write_entries<'v>(out: &mut Builder, entries: impl Iterator<Item = (Value, &'v Value)>) {
    out.push_str("{");
    for (i, (key, value)) in entries.enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        key.write(out, true);
        out.push_str(": ");
        value.write(out, true);
    }
    out.push_str("}");
}

/// Python's `repr` of a string.
fn quoted_text(text: &Text) -> Text {
    let quote = if text.as_str().contains('\'') && !text.as_str().contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.as_str().chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() && u32::from(c) < 256 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    let made = text.made(out);
    made.with_markup(false)
}

/// A float in the form of Python's `repr`.
pub(super) fn float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "nan"
        } else if x > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{x:?}")
}

/// Computes the cost of printing a value in advance, since a list may contain the same list many times.
pub(super) fn weigh<E>(value: &Value, cost: &mut dyn FnMut(usize) -> Result<(), E>) -> Result<(), E> {
    cost(1)?;
    match value {
        Value::Str(text) => cost(text.len() / 16),
        Value::List(list) => list.items.iter().try_for_each(|item| weigh(item, cost)),
        Value::Dict(dict) => dict.entries.iter().try_for_each(|(key, item)| {
            weigh(key, cost)?;
            weigh(item, cost)
        }),
        Value::Namespace(values) => values.borrow().iter().try_for_each(|(_, item)| weigh(item, cost)),
        _ => Ok(()),
    }
}

/// Whether two values are equal, as in Python; `cost` counts the compared values, and may stop with an error.
pub(super) fn equal<E>(a: &Value, b: &Value, cost: &mut dyn FnMut(usize) -> Result<(), E>) -> Result<bool, E> {
    cost(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => {
            cost(a.len().min(b.len()) / 16)?;
            a.as_str() == b.as_str()
        }
        (Value::List(a), Value::List(b)) => {
            if a.is_tuple != b.is_tuple || a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, cost)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match find(b, key, cost)? {
                    Some(other) if equal(value, other, cost)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_number().is_some() && a.as_number() == b.as_number(),
        },
    })
}

/// The entry of `key`.
pub(super) fn find<'d, E>(
    dict: &'d Dict,
    key: &Value,
    cost: &mut dyn FnMut(usize) -> Result<(), E>,
) -> Result<Option<&'d Value>, E> {
    for (i, (found, value)) in dict.entries.iter().enumerate() {
        let same = match (found, key) {
            (Value::Str(a), Value::Str(b)) => a.as_str() == b.as_str(),
            _ => equal(found, key, cost)?,
        };
        if i % 8 == 7 {
            cost(1)?;
        }
        if same {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The order of two values; `None` if they cannot be compared in Python.
pub(super) fn compare<E>(
    a: &Value,
    b: &Value,
    cost: &mut dyn FnMut(usize) -> Result<(), E>,
) -> Result<Option<Ordering>, E> {
    cost(1)?;
    Ok(match (a, b) {
        (Value::Str(a), Value::Str(b)) => {
            cost(a.len().min(b.len()) / 16)?;
            Some(a.as_str().cmp(b.as_str()))
        }
        (Value::List(a), Value::List(b)) if a.is_tuple == b.is_tuple => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b, cost)? {
                    return compare(a, b, cost);
                }
            }
            Some(a.items.len().cmp(&b.items.len()))
        }
        _ => match (a.as_int(), b.as_int()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_number().zip(b.as_number()).and_then(|(a, b)| a.partial_cmp(&b)),
        },
    })
}
