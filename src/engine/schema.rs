//! JSON schemas in the form for `llguidance`, for whole answers and for the arguments of tools.

use serde_json::{Map, Value as Json, json};

/// White space within JSON: a space, or a new line with indentation. More is never needed, and uncertain models might generate
/// white space forever.
const WHITE_SPACE: &str = r"\x20|\r?\n[\x20\x09]{0,20}";

/// A schema with the allowed white space, and with the types that its words imply.
pub(super) fn spaced(mut schema: Map<String, Json>) -> Json {
    imply_types(&mut schema);
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": WHITE_SPACE }));
    schema.into()
}

/// Gives schemas that have words of arrays or of objects, and no type, that type. By the standard they allow anything else as well,
/// but who writes `items` means an array, and an array is an answer to both. Where a narrower schema would not be the same wish
/// (below `not`, `if`, `oneOf`), nothing changes.
fn imply_types(schema: &mut Map<String, Json>) {
    const DECIDING: [&str; 9] = ["type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf", "not", "if"];
    let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
    if !has(&DECIDING) {
        match (has(&["items", "prefixItems"]), has(&["properties"])) {
            (true, false) => drop(schema.insert("type".to_owned(), "array".into())),
            (false, true) => drop(schema.insert("type".to_owned(), "object".into())),
            _ => {}
        }
    }
    for name in ["items", "additionalProperties"] {
        schema.get_mut(name).and_then(Json::as_object_mut).into_iter().for_each(imply_types);
    }
    for name in ["items", "prefixItems"] {
        let list = schema.get_mut(name).and_then(Json::as_array_mut);
        list.into_iter().flatten().filter_map(Json::as_object_mut).for_each(imply_types);
    }
    let properties = schema.get_mut("properties").and_then(Json::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).filter_map(Json::as_object_mut).for_each(imply_types);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn implied(mut schema: Json) -> Json {
        imply_types(schema.as_object_mut().expect("an object"));
        schema
    }

    #[test]
    fn types_are_those_that_the_words_imply() {
        assert_eq!(implied(json!({ "items": { "type": "null" } }))["type"], "array");
        assert_eq!(implied(json!({ "items": [{ "properties": {} }] }))["items"][0]["type"], "object");
        let inner = implied(json!({ "properties": { "a": { "items": {} }, "b": {} } }));
        assert_eq!((&inner["type"], &inner["properties"]["a"]["type"]), (&json!("object"), &json!("array")));
        assert!(inner["properties"]["b"].get("type").is_none());
        for as_it_is in [
            json!({ "type": "string", "items": {} }),
            json!({ "items": {}, "properties": {} }),
            json!({ "enum": [1], "items": {} }),
            json!({ "not": { "items": {} } }),
            json!({ "oneOf": [{ "items": {} }, { "properties": {} }] }),
            json!({ "minLength": 3 }),
        ] {
            assert_eq!(implied(as_it_is.clone()), as_it_is);
        }
    }
}
