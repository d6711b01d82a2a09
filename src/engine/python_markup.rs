//! Python's `Markup`, text that is HTML already: to minijinja, a safe string.
//!
//! What is added to it, or put into it by a method, is escaped, also where nothing that is printed is. `~` and `join` as
//! a filter make plain text of everything.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Expression, Value};

/// Gives `environment` the filters that make Markup as `markupsafe` does, and `__add__`, which is Python's `+`.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", |value: &Value| marked(escaped(&value.to_string())));
    environment.add_filter("__add__", add);
}

/// The value as Markup, which it may be already.
pub(super) fn escape(value: &Value) -> Value {
    if value.is_safe() { value.clone() } else { marked(escaped(&value.to_string())) }
}

fn marked(text: String) -> Value {
    Value::from_safe_string(text)
}

/// What a method of Markup is called with: what it puts into the text is escaped.
pub(super) fn arguments(method: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    let mut args = args.to_vec();
    match method {
        "replace" => {
            if let Some(new) = args.get_mut(1) {
                *new = escape(new);
            }
        }
        "format" => args.iter_mut().filter(|arg| arg.as_str().is_some()).for_each(|arg| *arg = escape(arg)),
        "join" => {
            if let Some(items) = args.first_mut() {
                *items = items.try_iter()?.map(|item| escape(&item)).collect();
            }
        }
        _ => {}
    }
    Ok(args)
}

/// What a method of Markup makes: texts, also those in lists, are Markup.
pub(super) fn result(value: Value) -> Result<Value, Error> {
    Ok(match value.kind() {
        ValueKind::String => marked(value.to_string()),
        ValueKind::Seq => value.try_iter()?.map(result).collect::<Result<Vec<_>, _>>()?.into(),
        _ => value,
    })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            other => out.push(other),
        }
    }
    out
}

fn add(left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(l), Some(r)) = (left.as_str(), right.as_str()) {
        let markup = left.is_safe() || right.is_safe();
        return Ok(if markup {
            marked(format!("{}{}", escape(left), escape(right)))
        } else {
            format!("{l}{r}").into()
        });
    }
    // minijinja's own `+` can be reached from an expression alone.
    static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(Environment::empty);
    static SUM: LazyLock<Option<Expression<'static, 'static>>> =
        LazyLock::new(|| ENVIRONMENT.compile_expression("left + right").ok());
    let sides = || Value::from(BTreeMap::from([("left", left.clone()), ("right", right.clone())]));
    let sum = SUM.as_ref().map(|sum| sum.eval(sides()));
    match sum {
        Some(Ok(value)) => Ok(value),
        // Without the line in that expression.
        Some(Err(e)) => Err(Error::new(e.kind(), e.detail().unwrap_or_default().to_owned())),
        None => Err(ErrorKind::InvalidOperation.into()),
    }
}
