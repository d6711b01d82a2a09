//! Rules in Lark for the arguments of calls, which the grammars of several syntaxes are made of: bare values that a mark ends,
//! parameters one after another, lists with commas.

use serde_json::{Map, Value as Json};

use super::{Marks, Tools, text};
use crate::engine::schema::spaced;

/// Texts of more characters than this are not counted: their rule would be too large.
const LONGEST_COUNTED: u64 = 500;

/// The rules of a grammar, numbered.
pub(super) struct Rules<'m, 't> {
    pub(super) marks: &'m Marks<'t>,
    lines: String,
    count: usize,
}

/// A parameter of a tool.
pub(super) struct Parameter<'s> {
    pub(super) name: &'s str,
    /// Its schema, with the definitions of the whole.
    pub(super) schema: Json,
    required: bool,
}

impl<'m, 't> Rules<'m, 't> {
    pub(super) fn new(marks: &'m Marks<'t>) -> Self {
        Self { marks, lines: String::new(), count: 0 }
    }

    /// Adds a rule and returns its name.
    pub(super) fn add(&mut self, body: &str) -> String {
        self.add_with("", body)
    }

    fn add_with(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("r{}", self.count);
        self.count += 1;
        self.lines.push_str(&format!("{name}{attributes}: {body}\n"));
        name
    }

    /// The name of the rule that is added after so many others.
    pub(super) fn next_name(&self, others: usize) -> String {
        format!("r{}", self.count + others)
    }

    /// The grammar that begins with `start`.
    pub(super) fn grammar(self, start: &str) -> String {
        format!("start: {start}\n{}", self.lines)
    }

    /// One of the tools that may be called, each written by `one`.
    pub(super) fn any_tool(&mut self, tools: &Tools, mut one: impl FnMut(&mut Self, &str, &Json) -> String) -> String {
        let all: Vec<String> = tools
            .callable()
            .map(|(name, schema)| {
                let body = one(self, name, schema);
                self.add(&body)
            })
            .collect();
        self.add(&all.join(" | "))
    }

    /// A call, or several where they are allowed, with what may stand between them.
    pub(super) fn repeated(&mut self, tools: &Tools, call: &str, between: &str) -> String {
        if tools.parallel { format!("{call} ({between} {call})*") } else { call.to_owned() }
    }

    /// All parameters of a tool in the order of its schema, each written by `one`. What `one` gets without a parameter is any of a
    /// tool that does not say which it has.
    pub(super) fn parameters(
        &mut self,
        schema: &Json,
        mut one: impl FnMut(&mut Self, Option<&Parameter<'_>>) -> String,
    ) -> String {
        let all = parameters(schema);
        if all.is_empty() {
            if schema["additionalProperties"] == false {
                return String::new();
            }
            let any = one(self, None);
            return format!("({any})*");
        }
        let part = |parameter: &Parameter<'_>| {
            let body = one(self, Some(parameter));
            let rule = self.add(&body);
            if parameter.required { rule } else { format!("{rule}?") }
        };
        all.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    /// The same with commas between them; nothing for a tool that does not say which parameters it has.
    pub(super) fn listed(&mut self, schema: &Json, mut one: impl FnMut(&mut Self, &Parameter<'_>) -> String) -> String {
        let all = parameters(schema);
        // From the last to the first: what follows where nothing has come yet, and where something has.
        let (mut first, mut later) = (self.add("\"\""), self.add("\"\""));
        for parameter in all.iter().rev() {
            let body = one(self, parameter);
            let item = self.add(&body);
            let here = format!("{item} {later}");
            let with_comma = format!("\",\" \" \"? {item} {later}");
            (first, later) = if parameter.required {
                (self.add(&here), self.add(&with_comma))
            } else {
                (self.add(&format!("{here} | {first}")), self.add(&format!("{with_comma} | {later}")))
            };
        }
        first
    }

    /// A value as bare text, and the mark that ends it: texts without quotes, anything else as JSON.
    pub(super) fn bare(&mut self, schema: &Json, close: &str) -> String {
        if let Some(texts) = enumerated(schema) {
            let texts: Vec<String> = texts.into_iter().map(text).collect();
            let rule = self.add(&texts.join(" | "));
            return format!("{rule} {}", self.marks.lark(close));
        }
        if is_text(schema) {
            return self.until(&counted(schema), close);
        }
        let value = self.add(&json_value(schema));
        format!("{value} {}", self.marks.lark(close))
    }

    /// Any bare text, and the mark that ends it.
    pub(super) fn any_bare(&mut self, close: &str) -> String {
        self.until("(.|\\n)*", close)
    }

    /// Text that the expression matches, up to a mark, which it cannot contain.
    pub(super) fn until(&mut self, expression: &str, close: &str) -> String {
        // A text ends at its first sign of the mark; control tokens are no text and end it anyway.
        let lark = self.marks.lark(close);
        let Some(plain) = lark.strip_prefix('"') else {
            let rule = self.add(&format!("/{expression}/"));
            return format!("{rule} {lark}");
        };
        let end = plain.match_indices('"').map(|(at, _)| at).find(|&at| !plain[..at].ends_with('\\'));
        let (suffix, rest) = plain.split_at(end.unwrap_or(plain.len()));
        let rule = self.add_with(&format!("[suffix=\"{suffix}\"]"), &format!("/{expression}/"));
        format!("{rule} {}", rest.strip_prefix('"').unwrap_or(rest))
    }
}

/// The parameters of a tool, in the order of its schema.
pub(super) fn parameters(schema: &Json) -> Vec<Parameter<'_>> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let one = |(name, own): (&'_ String, &Json)| {
        let mut own = own.as_object().cloned().unwrap_or_default();
        for key in ["$defs", "definitions"] {
            if let Some(definitions) = schema.get(key) {
                own.entry(key).or_insert_with(|| definitions.clone());
            }
        }
        (own, required.contains(&name.as_str()))
    };
    properties
        .map(|(name, own)| {
            let (schema, required) = one((name, own));
            Parameter { name, schema: schema.into(), required }
        })
        .collect()
}

/// Whether a value by this schema is a text where values are written bare.
pub(super) fn is_text(schema: &Json) -> bool {
    match &schema["type"] {
        Json::String(kind) => kind == "string",
        Json::Array(kinds) => kinds.iter().any(|kind| kind == "string"),
        _ => enumerated(schema).is_some(),
    }
}

/// The texts that a schema lists, if it lists nothing else.
pub(super) fn enumerated(schema: &Json) -> Option<Vec<&str>> {
    if let Some(only) = schema.get("const") {
        return only.as_str().map(|text| vec![text]);
    }
    schema.get("enum")?.as_array()?.iter().map(Json::as_str).collect()
}

/// JSON by a schema that need not be an object's.
pub(super) fn json_value(schema: &Json) -> String {
    let schema: Map<String, Json> = schema.as_object().cloned().unwrap_or_default();
    format!("%json {}", spaced(schema))
}

/// An expression for a text of the lengths that a schema allows.
pub(super) fn counted(schema: &Json) -> String {
    let bound = |key: &str| schema.get(key).and_then(Json::as_u64).filter(|&bound| bound <= LONGEST_COUNTED);
    match (bound("minLength"), bound("maxLength")) {
        (None, None) => "(.|\\n)*".to_owned(),
        (least, most) => {
            let most = most.map(|most| most.to_string()).unwrap_or_default();
            format!("(.|\\n){{{},{most}}}", least.unwrap_or(0))
        }
    }
}
