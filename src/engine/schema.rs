//! JSON schemas in the form for `llguidance`, for whole answers and for the arguments of tools.

use serde_json::{Map, Value as Json, json};

/// White space within JSON: a space, or a new line with indentation. More is never needed, and uncertain models might generate
/// white space forever.
const WHITE_SPACE: &str = r"\x20|\r?\n[\x20\x09]{0,20}";

/// A schema with the allowed white space.
pub(super) fn spaced(mut schema: Map<String, Json>) -> Json {
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": WHITE_SPACE }));
    schema.into()
}
