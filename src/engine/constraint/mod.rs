//! Constrained answers: JSON, a JSON schema, a grammar or a regular expression. Before a token is chosen, those that the rule does
//! not allow are excluded. The end of the answer is allowed where the rule may end.
//!
//! `llguidance` computes the allowed tokens (`machine.rs`). `gbnf` reads grammars in llama.cpp's notation, and `guide.rs` decides
//! when a rule applies, since a model may think before it answers.

mod gbnf;
mod guide;
#[cfg(feature = "constrain")]
mod machine;
#[cfg(not(feature = "constrain"))]
#[path = "no_machine.rs"]
mod machine;

use std::sync::Arc;

use serde_json::Value as Json;

use super::tools::Opening;
use super::{Error, ThinkingStyle, ToolChoice, ToolSyntax, Tools};
use crate::tokenizer::Tokenizer;
pub(super) use guide::Guide;
use machine::{Compiled, Machine};

/// Maximum bytes of a grammar or a schema.
const MOST_BYTES: usize = 256 << 10;

/// A constraint for answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid by this schema. References must be within the schema.
    JsonSchema(Json),
    /// The rule `root` of a GBNF grammar.
    Gbnf(String),
    /// The rule `start` of a Lark grammar.
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

/// The tokens of a vocabulary by their bytes: built once per model and shared by all constraints.
pub struct TokenTrie(Machine);

impl TokenTrie {
    /// The tokens of `tokenizer`. Those with more than 250 bytes are never allowed.
    ///
    /// # Errors
    /// [`Error::Constraint`] if the program is built without constraints.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        Machine::new(tokenizer).map(Self)
    }

    /// Compiles a constraint, which can be used for any number of answers.
    ///
    /// # Errors
    /// [`Error::Grammar`] when a GBNF grammar is not valid; [`Error::Constraint`] when another grammar, a schema or an expression is
    /// not valid, cannot be enforced, or is too large.
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
        Ok(Constraint { rule: Rule::Whole(compiled), thinking: None })
    }

    /// A constraint for tool calls: arguments follow the schemas of the tools, and a call is enforced if it is required. `None` if
    /// calls in this syntax cannot be constrained.
    ///
    /// # Errors
    /// [`Error::Constraint`] when the tools are too large to enforce.
    pub fn calls(
        &self,
        syntax: &'static ToolSyntax,
        tools: &Tools,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Constraint>, Error> {
        let must = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        let compile = |tools: &Tools| -> Result<Option<Constraint>, Error> {
            let Some(opening) = syntax.opening(tools, tokenizer) else { return Ok(None) };
            if opening.rest.len() > MOST_BYTES {
                return Err(Error::Constraint { message: format!("tools of more than {MOST_BYTES} bytes") });
            }
            let rest = self.0.lark(&opening.rest)?;
            let whole = if must && !syntax.before_thinking {
                let rest = opening.rest.replacen("start:", "rest:", 1);
                Some(self.0.lark(&format!("start: {} rest\n{rest}", opening.lark))?)
            } else {
                None
            };
            let Opening { mark, at_start, .. } = opening;
            let calls =
                Calls { mark, at_start, rest, whole, must, parallel: tools.parallel, channels: syntax.before_thinking };
            Ok(Some(Constraint { rule: Rule::Calls(Arc::new(calls)), thinking: None }))
        };
        // If a schema cannot be enforced, any object is allowed.
        compile(tools).or_else(|_| compile(&tools.loosened()))
    }
}

/// The rule of an answer.
#[derive(Clone)]
enum Rule {
    /// A rule for the whole answer.
    Whole(Compiled),
    /// A rule for calls in the answer.
    Calls(Arc<Calls>),
}

/// The syntax of calls.
struct Calls {
    mark: &'static str,
    /// Whether the mark is recognized only at the start of an answer.
    at_start: bool,
    /// The rule for what follows the mark.
    rest: Compiled,
    /// The rule for a call with its mark, if a call is required.
    whole: Option<Compiled>,
    /// Whether a call is required.
    must: bool,
    /// Whether several calls are allowed.
    parallel: bool,
    /// Whether calls are channels, like thinking.
    channels: bool,
}

/// A compiled constraint. Clones share the compiled state.
#[derive(Clone)]
pub struct Constraint {
    rule: Rule,
    /// The style of thinking before the answer, and whether the answer starts inside of thinking.
    thinking: Option<(&'static ThinkingStyle, bool)>,
}

impl Constraint {
    /// Applies the rule only after thinking, with which an answer may start; `inside` if the prompt has opened it.
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

/// Constraints are equal if they share the compiled state.
impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.rule, &other.rule) {
            (Rule::Whole(one), Rule::Whole(other)) => one.is_same(other),
            (Rule::Calls(one), Rule::Calls(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.thinking == other.thinking
    }
}

impl Eq for Constraint {}

#[cfg(all(test, feature = "constrain"))]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;
    use crate::gguf::Reader;

    /// Measures masks in a vocabulary of 128,256 tokens: `GGUF_SHARED=... cargo test --release --lib masks_in -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints figures; needs GGUF_SHARED"]
    fn masks_in_a_large_vocabulary() {
        let path = std::env::var("GGUF_SHARED").expect("GGUF_SHARED") + "/vocab/ggml-vocab-llama-bpe.gguf";
        let reader = Reader::open(path.as_ref()).expect("a vocabulary");
        let tokenizer = Tokenizer::from_gguf(&reader).expect("a tokenizer");
        let began = Instant::now();
        let trie = TokenTrie::new(&tokenizer).expect("a trie");
        println!("trie of {} tokens: {:?}", tokenizer.vocab_size(), began.elapsed());
        let person = json!({
            "type": "object", "required": ["name", "age", "tags"], "additionalProperties": false, "properties": {
                "name": { "type": "string" }, "age": { "type": "integer", "minimum": 0, "maximum": 150 },
                "tags": { "type": "array", "items": { "enum": ["a", "b", "c"] } },
                "address": { "type": "object", "properties": { "street": { "type": "string" }, "zip": { "type": "string", "pattern": "^[0-9]{5}$" } } },
            },
        });
        let text = "{\"name\": \"Ada Lovelace, countess of somewhere\", \"age\": 36, \"tags\": [\"a\", \"b\"], \
                    \"address\": {\"street\": \"12 St James's Square\", \"zip\": \"12345\"}}";
        let gbnf = std::fs::read_to_string(std::env::var("GGUF_GRAMMAR").unwrap_or_default());
        let mut grammars = vec![
            ("schema", Grammar::JsonSchema(person)),
            ("json", Grammar::JsonObject),
            ("regex", Grammar::Regex("[^\\n]{1,200}".to_owned())),
        ];
        grammars.extend(gbnf.map(|text| ("gbnf", Grammar::Gbnf(text))));
        let tokens = tokenizer.encode(text, Default::default()).expect("encodes");
        for (name, grammar) in grammars {
            let began = Instant::now();
            let constraint = trie.compile(&grammar).expect("valid");
            let compiled = began.elapsed();
            let Rule::Whole(compiled_rule) = &constraint.rule else { unreachable!("a whole answer") };
            for round in 0..2 {
                let mut state = compiled_rule.start();
                let mut times = Vec::new();
                for &token in &tokens {
                    let mut logits = vec![0.0; tokenizer.vocab_size()];
                    let began = Instant::now();
                    state.mask(&mut logits, &[]).expect("within limits");
                    assert!(!logits[token as usize].is_nan(), "{name}: {token} of {text}");
                    state.accept(token).expect("allowed");
                    times.push(began.elapsed());
                }
                times.sort_unstable();
                let mean = times.iter().sum::<std::time::Duration>() / u32::try_from(times.len()).expect("few");
                println!(
                    "{name} round {round}: compiled in {compiled:?}; mask and accept: mean {mean:?}, median {:?}, most {:?}",
                    times[times.len() / 2],
                    times[times.len() - 1]
                );
            }
        }
    }
}
