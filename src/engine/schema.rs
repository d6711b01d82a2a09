//! JSON schemas as `llguidance` takes them, for whole answers and for the arguments of tools.

use serde_json::{Map, Value as Json, json};

/// White space within JSON: a space, or a new line and its indentation. More than that is never needed, and models that are not
/// sure would write it for ever.
const WHITE_SPACE: &str = r"\x20|\r?\n[\x20\x09]{0,20}";

/// A schema with the white space that its texts may have.
pub(super) fn spaced(mut schema: Map<String, Json>) -> Json {
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": WHITE_SPACE }));
    schema.into()
}
