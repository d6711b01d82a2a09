//! Answers that obey a rule: JSON, a JSON schema, a grammar or a regular expression. Before a token is chosen, those that the rule
//! does not allow are taken away; the end of the answer is allowed where the rule may end.
//!
//! `llguidance` computes which tokens a rule allows (`machine.rs`). Grammars in llama.cpp's notation are read by `gbnf`, and
//! `guide.rs` says when a rule begins to hold: a model may think before it answers.

mod gbnf;
mod guide;
#[cfg(feature = "constrain")]
mod machine;
#[cfg(not(feature = "constrain"))]
#[path = "no_machine.rs"]
mod machine;

use serde_json::Value as Json;

use super::{Error, ThinkingStyle};
use crate::tokenizer::Tokenizer;
pub(super) use guide::Guide;
use machine::{Compiled, Machine};

/// Bytes of a grammar or a schema, at most.
const MOST_BYTES: usize = 256 << 10;

/// What an answer has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid by this schema. References lead to places in the schema itself alone.
    JsonSchema(Json),
    /// What the rule `root` of a grammar of llama.cpp's describes.
    Gbnf(String),
    /// What the rule `start` of a Lark grammar describes.
    Lark(String),
    /// Text that a regular expression matches as a whole.
    Regex(String),
}

impl Grammar {
    /// Bytes of its text.
    fn size(&self) -> usize {
        match self {
            Self::JsonObject => 0,
            Self::JsonSchema(schema) => schema.to_string().len(),
            Self::Gbnf(text) | Self::Lark(text) | Self::Regex(text) => text.len(),
        }
    }
}

/// The tokens of a vocabulary by their bytes: made once a model, shared by all its constraints.
pub struct TokenTrie(Machine);

impl TokenTrie {
    /// The tokens of `tokenizer`. Those with more than 250 bytes are never allowed.
    ///
    /// # Errors
    /// [`Error::Constraint`] where the program is built without constraints.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        Machine::new(tokenizer).map(Self)
    }

    /// A constraint for one answer or many.
    ///
    /// # Errors
    /// [`Error::Grammar`] where a grammar of llama.cpp's is not valid, [`Error::Constraint`] where another grammar, a schema or an
    /// expression is not, says what cannot be kept to, or is too large.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, Error> {
        if grammar.size() > MOST_BYTES {
            return Err(Error::Constraint { message: format!("more than {MOST_BYTES} bytes") });
        }
        let compiled = match grammar {
            Grammar::Gbnf(text) => self.0.lark(&gbnf::to_lark(text, &|name| self.0.token(name))?)?,
            Grammar::Lark(text) => self.0.lark(text)?,
            Grammar::Regex(text) => self.0.regex(text)?,
            Grammar::JsonObject => self.0.json_schema(&serde_json::json!({ "type": "object" }))?,
            Grammar::JsonSchema(schema) => self.0.json_schema(schema)?,
        };
        Ok(Constraint { compiled, thinking: None })
    }
}

/// A rule that answers obey. Clones share what was computed for it.
#[derive(Clone)]
pub struct Constraint {
    compiled: Compiled,
    /// How the model marks what it thinks before, and whether its answer begins inside of that.
    thinking: Option<(&'static ThinkingStyle, bool)>,
}

impl Constraint {
    /// The rule holds from the end of the thinking on, which an answer may begin with; `inside` where the prompt has begun it.
    #[must_use]
    pub fn after_thinking(self, style: Option<&'static ThinkingStyle>, inside: bool) -> Self {
        Self { thinking: style.map(|style| (style, inside)), ..self }
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("thinking", &self.thinking).finish_non_exhaustive()
    }
}

/// Constraints are equal when they share what was computed.
impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        self.compiled.is_same(&other.compiled) && self.thinking == other.thinking
    }
}

impl Eq for Constraint {}
