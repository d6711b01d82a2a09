//! Constrained answers: JSON, a JSON schema, a grammar or a regular expression. Before a token is chosen, those that the rule does
//! not allow are excluded. The end of the answer is allowed where the rule may end.
//!
//! `llguidance` computes which tokens a rule allows (`machine.rs`), and `cache.rs` keeps what it has compiled. Grammars in
//! llama.cpp's notation are read by `gbnf`, and `guide.rs` says when a rule begins to hold: a model may think before it answers.

mod cache;
mod gbnf;
#[cfg_attr(
    not(feature = "constrain"),
    allow(unreachable_code, unused_mut, unused_variables, reason = "no rule can be compiled then")
)]
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
use cache::{Cache, Source};
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
    /// Its kind and its text.
    fn source(&self) -> Source {
        match self {
            Self::JsonObject => ("json", String::new()),
            Self::JsonSchema(schema) => ("schema", schema.to_string()),
            Self::Gbnf(text) => ("gbnf", text.clone()),
            Self::Lark(text) => ("lark", text.clone()),
            Self::Regex(text) => ("regex", text.clone()),
        }
    }
}

/// The tokens of a vocabulary by their bytes, and the constraints that were compiled for them: made once a model, shared by all
/// its answers.
pub struct TokenTrie {
    machine: Machine,
    compiled: Cache<Rule>,
}

impl TokenTrie {
    /// The tokens of `tokenizer`. Those with more than 250 bytes are never allowed.
    ///
    /// # Errors
    /// [`Error::Constraint`] if the program is built without constraints.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        Ok(Self { machine: Machine::new(tokenizer)?, compiled: Cache::new() })
    }

    /// A constraint for one answer or many. The last of them are kept, so that the same grammar is compiled once.
    ///
    /// # Errors
    /// [`Error::Grammar`] when a GBNF grammar is not valid; [`Error::Constraint`] when another grammar, a schema or an expression is
    /// not valid, cannot be enforced, or is too large.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, Error> {
        let source = grammar.source();
        if source.1.len() > MOST_BYTES {
            return Err(Error::Constraint { message: format!("more than {MOST_BYTES} bytes") });
        }
        let machine = &self.machine;
        let rule = self.compiled.get(source, || {
            let compiled = match grammar {
                Grammar::Gbnf(text) => machine.lark(&gbnf::to_lark(text, &|name| machine.token(name))?)?,
                Grammar::Lark(text) => machine.lark(text)?,
                Grammar::Regex(text) => machine.regex(text)?,
                Grammar::JsonObject => machine.json_schema(&serde_json::json!({ "type": "object" }))?,
                Grammar::JsonSchema(schema) => machine.json_schema(schema)?,
            };
            Ok::<_, Error>(Rule::Whole(compiled))
        })?;
        Ok(Constraint { rule: rule.fresh(), thinking: None })
    }

    /// A constraint for tool calls: arguments follow the schemas of the tools, and a call is enforced if it is required.
    ///
    /// # Errors
    /// [`Error::Constraint`] when the tools are too large to enforce.
    pub fn calls(
        &self,
        syntax: &'static ToolSyntax,
        tools: &Tools,
        tokenizer: &Tokenizer,
    ) -> Result<Constraint, Error> {
        let must = matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
        let compile = |tools: &Tools| -> Result<Rule, Error> {
            let Opening { mark, at_start, lark, rest } = syntax.opening(tools, tokenizer);
            if rest.len() > MOST_BYTES {
                return Err(Error::Constraint { message: format!("tools of more than {MOST_BYTES} bytes") });
            }
            let parallel = tools.parallel;
            // The text of the grammar says what the tools are; the rest of the key is what else a rule of calls is made of.
            let source = ("calls", format!("{}\n{must} {parallel}\n{lark}\n{rest}", syntax.name));
            self.compiled.get(source, || {
                let whole = if must && !syntax.before_thinking {
                    let rest = rest.replacen("start:", "rest:", 1);
                    let mark = if syntax.begun { "" } else { lark.as_str() };
                    Some(self.machine.lark(&format!("start: {mark} rest\n{rest}"))?)
                } else {
                    None
                };
                let rest = self.machine.lark(&rest)?;
                let channels = syntax.before_thinking;
                Ok::<_, Error>(Rule::Calls(Arc::new(Calls { mark, at_start, rest, whole, must, parallel, channels })))
            })
        };
        // A schema with what cannot be kept to is still a schema of an object.
        let rule = compile(tools).or_else(|_| compile(&tools.loosened()))?;
        Ok(Constraint { rule: rule.fresh(), thinking: None })
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

impl Rule {
    /// The rule as it was compiled. What it computes while it is obeyed is kept with it, within the bounds of one request, and
    /// not with the rule that the cache has.
    fn fresh(&self) -> Self {
        match self {
            Self::Whole(compiled) => Self::Whole(compiled.fresh()),
            Self::Calls(calls) => {
                let (rest, whole) = (calls.rest.fresh(), calls.whole.as_ref().map(Compiled::fresh));
                Self::Calls(Arc::new(Calls { rest, whole, ..Calls::clone(calls) }))
            }
        }
    }
}

/// How calls begin, and go on.
#[derive(Clone)]
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
