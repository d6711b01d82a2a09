//! `GET /openapi.json`: the routes as an OpenAPI document, from the table of routes and the body types in `openapi.json`.

use serde_json::{Map, Value as Json, json};

use super::failure::Dialect;
use super::router::{Route, Routes};

/// Body types, by name.
const TYPES: &str = include_str!("openapi.json");

/// The document of a server, which may need a key.
///
/// # Panics
/// When the types are not valid JSON, which a test checks.
pub(super) fn describe(routes: &Routes, needs_key: bool) -> Json {
    let mut paths = Map::new();
    for route in routes.iter() {
        let path =
            route.path.strip_suffix('*').map_or_else(|| route.path.to_owned(), |start| format!("{start}{{name}}"));
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[route.method.as_str().to_ascii_lowercase()] = operation(route, needs_key);
    }
    let types: Json = serde_json::from_str(TYPES).expect("valid JSON");
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": "gguf serve", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": types,
        },
    });
    if needs_key {
        document["components"]["securitySchemes"] = json!({
            "bearer": { "type": "http", "scheme": "bearer" },
            "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
        });
        document["security"] = json!([{ "bearer": [] }, { "key": [] }]);
    }
    document
}

fn operation(route: &Route, needs_key: bool) -> Json {
    let tag = match route.dialect {
        Dialect::OpenAi => "OpenAI and llama-server",
        Dialect::Anthropic => "Anthropic",
        Dialect::Ollama => "Ollama",
    };
    let mut operation = json!({
        "summary": route.summary, "tags": [tag],
        "responses": {
            "200": { "description": "The answer" },
            "default": { "description": "Why there is none, in the dialect's form", "content": { "application/json": {} } },
        },
    });
    if let Some(body) = route.body {
        let schema = json!({ "$ref": format!("#/components/schemas/{body}") });
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    let mut parameters = Vec::new();
    if route.path.ends_with('*') {
        parameters.push(json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    if route.path == "/slots/*" {
        let actions = json!({ "enum": ["save", "restore", "erase"] });
        parameters.push(json!({ "name": "action", "in": "query", "required": true, "schema": actions }));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if route.is_open && needs_key {
        operation["security"] = json!([]);
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_every_type_is_described_once() {
        let routes = Routes::new();
        let document = describe(&routes, true);
        let paths = document["paths"].as_object().expect("paths");
        let described: usize = paths.values().map(|at| at.as_object().map_or(0, Map::len)).sum();
        assert_eq!(described, routes.iter().count());
        let types = document["components"]["schemas"].as_object().expect("types");
        let text = document.to_string();
        let used: BTreeSet<&str> =
            text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let known: BTreeSet<&str> = types.keys().map(String::as_str).collect();
        assert_eq!(used, known);
        for route in routes.iter() {
            assert!(route.summary.len() > 10 && !route.summary.ends_with('.'), "{}", route.path);
        }
    }
}
