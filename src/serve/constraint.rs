//! Constraints of requests: `response_format`, llama-server's `grammar` and `json_schema`, Ollama's `format`.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::blocking::blocking;
use super::failure::Failure;
use super::fields::Fields;
use super::models::ServedModel;
use crate::engine::{Constraint, Error, Grammar, Tools};

/// A constraint for answers, and the field that requests it.
pub(super) struct RequestedConstraint {
    field: &'static str,
    grammar: Grammar,
}

/// A schema: an object, or `true` for anything.
fn schema(field: &'static str, value: &Json) -> Result<Grammar, Failure> {
    match value {
        Json::Object(_) | Json::Bool(true) => Ok(Grammar::JsonSchema(value.clone())),
        _ => Err(Failure::field(field, "must be a JSON schema")),
    }
}

/// The constraint of a request, if it has one. `null`, and empty texts and schemas, mean none.
pub(super) fn wanted(fields: Fields<'_>) -> Result<Option<RequestedConstraint>, Failure> {
    let mut all = Vec::new();
    if let Some(text) = fields.text("grammar")?.filter(|text| !text.is_empty()) {
        all.push(RequestedConstraint { field: "grammar", grammar: Grammar::Gbnf(text.to_owned()) });
    }
    let is_empty = |value: &&Json| value.as_object().is_some_and(Map::is_empty);
    if let Some(value) = fields.get("json_schema").filter(|value| !is_empty(value)) {
        all.push(RequestedConstraint { field: "json_schema", grammar: schema("json_schema", value)? });
    }
    if let Some(format) = fields.object("response_format")? {
        let grammar = match format.text("type")? {
            Some("text") => None,
            // llama-server accepts a schema here as well.
            Some("json_object") => Some(match format.get("schema") {
                Some(value) => schema("response_format.schema", value)?,
                None => Grammar::JsonObject,
            }),
            Some("json_schema") => {
                let inner = format.object("json_schema")?.unwrap_or(format);
                let value = inner.get("schema");
                let value = value.ok_or_else(|| Failure::field("response_format.json_schema.schema", "is needed"))?;
                Some(schema("response_format.json_schema.schema", value)?)
            }
            _ => return Err(Failure::field("response_format.type", "must be text, json_object or json_schema")),
        };
        all.extend(grammar.map(|grammar| RequestedConstraint { field: "response_format", grammar }));
    }
    match all.as_slice() {
        [first, second, ..] => {
            Err(Failure::invalid(format!("{} and {} cannot be given at once", first.field, second.field)))
        }
        _ => Ok(all.pop()),
    }
}

/// Ollama's `format`: `"json"`, or a schema.
pub(super) fn format(fields: Fields<'_>) -> Result<Option<RequestedConstraint>, Failure> {
    let grammar = match fields.get("format") {
        None => return Ok(None),
        Some(Json::String(text)) if text.is_empty() => return Ok(None),
        Some(Json::String(text)) if text == "json" => Grammar::JsonObject,
        Some(value) if value.is_object() => schema("format", value)?,
        Some(_) => return Err(Failure::field("format", "must be \"json\" or a JSON schema")),
    };
    Ok(Some(RequestedConstraint { field: "format", grammar }))
}

/// Compiles the constraint for an answer, or for tool calls in it. This may take a while.
pub(super) async fn compile(
    model: &Arc<ServedModel>,
    wanted: Option<RequestedConstraint>,
    tools: Option<Arc<Tools>>,
) -> Result<Option<Constraint>, Failure> {
    let model = model.clone();
    let failed = |field: &str, error: Error| Failure::field(field, format!("cannot be kept to: {error}"));
    match (wanted, tools) {
        (None, None) => Ok(None),
        (Some(RequestedConstraint { field, .. }), Some(_)) => {
            Err(Failure::unsupported(field, "with tools that may be called (tool_choice none)"))
        }
        (Some(RequestedConstraint { field, grammar }), None) => {
            let work =
                move || model.trie().and_then(|trie| trie.compile(&grammar)).map_err(|error| failed(field, error));
            blocking(work).await.map(Some)
        }
        // In a build without constraints, calls are not constrained.
        (None, Some(_)) if cfg!(not(feature = "constrain")) => Ok(None),
        (None, Some(tools)) => {
            let work = move || {
                let tokenizer = model.batcher().model().tokenizer();
                let compiled = model.trie().and_then(|trie| trie.calls(model.prompter.tool_syntax, &tools, tokenizer));
                compiled.map_err(|error| failed("tools", error))
            };
            blocking(work).await.map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Json) -> Result<Option<Grammar>, String> {
        let found = wanted(Fields(body.as_object().expect("an object")));
        found.map(|wanted| wanted.map(|wanted| wanted.grammar)).map_err(|failure| failure.message)
    }

    #[test]
    fn rules_are_found_in_the_fields_of_all_dialects() {
        let schema = json!({ "type": "integer" });
        let of_schema = || Ok(Some(Grammar::JsonSchema(schema.clone())));
        assert_eq!(read(&json!({ "response_format": { "type": "text" }, "grammar": "", "json_schema": {} })), Ok(None));
        assert_eq!(read(&json!({ "response_format": { "type": "json_object" } })), Ok(Some(Grammar::JsonObject)));
        assert_eq!(read(&json!({ "response_format": { "type": "json_object", "schema": schema } })), of_schema());
        let strict = json!({ "type": "json_schema", "json_schema": { "name": "n", "strict": true, "schema": schema } });
        assert_eq!(read(&json!({ "response_format": strict })), of_schema());
        assert_eq!(read(&json!({ "json_schema": schema })), of_schema());
        assert_eq!(read(&json!({ "grammar": "root ::= x" })), Ok(Some(Grammar::Gbnf("root ::= x".to_owned()))));
        for (body, expected) in [
            (
                json!({ "response_format": { "type": "xml" } }),
                "response_format.type must be text, json_object or json_schema",
            ),
            (
                json!({ "response_format": { "type": "json_schema", "json_schema": {} } }),
                "response_format.json_schema.schema is needed",
            ),
            (json!({ "json_schema": 3 }), "json_schema must be a JSON schema"),
            (
                json!({ "grammar": "x", "json_schema": { "type": "null" } }),
                "grammar and json_schema cannot be given at once",
            ),
        ] {
            assert_eq!(read(&body), Err(expected.to_owned()));
        }
        let ollama = |body: &Json| format(Fields(body.as_object().expect("an object"))).map(|w| w.map(|w| w.grammar));
        assert_eq!(ollama(&json!({ "format": "json" })), Ok(Some(Grammar::JsonObject)));
        assert_eq!(ollama(&json!({ "format": "" })), Ok(None));
        assert_eq!(ollama(&json!({ "format": schema })), Ok(Some(Grammar::JsonSchema(schema.clone()))));
        assert!(ollama(&json!({ "format": "yaml" })).is_err());
    }
}
