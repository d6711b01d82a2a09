//! What a recipe adds to the model that it is made from.

use serde_json::{Map, Value as Json};

/// Texts, messages and settings of a made model; those that are missing are the model's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Additions {
    /// The template, in Go's template language.
    pub template: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// Licenses.
    pub licenses: Vec<String>,
    /// Messages with which conversations begin: their roles and texts.
    pub messages: Vec<(String, String)>,
    /// Settings.
    pub parameters: Map<String, Json>,
    /// What Ollama alone reads: `renderer`, `parser` and `requires`, with their values.
    pub for_ollama: Vec<(&'static str, String)>,
}
