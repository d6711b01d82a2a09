//! The interface to the crate `llguidance`, which computes the tokens that a rule allows next. No other file uses it.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, regex_to_lark};
use serde_json::Value as Json;

use crate::engine::Error;
use crate::engine::schema::spaced;
use crate::tokenizer::{TokenKind, Tokenizer};

/// Maximum bytes of a token; longer tokens are never allowed.
const LONGEST_TOKEN: usize = 250;
/// Maximum items in one step of a grammar: about 25 ms.
const STEP_ITEMS: usize = 500_000;
/// Longest message of an error.
const MESSAGE: usize = 400;

fn failed(error: impl std::fmt::Display) -> Error {
    // The first lines are the message; dumps of the parser follow.
    let text = error.to_string();
    let text = text.split("\n<state>").next().unwrap_or_default().split("\n<backtrace>").next().unwrap_or_default();
    let mut message: String = text.trim().chars().take(MESSAGE).collect();
    if message.len() < text.trim().len() {
        message.push_str("...");
    }
    Error::Constraint { message }
}

/// The token of a text.
type TokenOf = Box<dyn Fn(&str) -> Option<u32> + Send + Sync>;

/// State that all constraints of a model share.
pub(super) struct Machine {
    factory: ParserFactory,
    /// Tokens by their texts, for grammars that name them.
    names: TokenOf,
}

impl Machine {
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let count = u32::try_from(tokenizer.vocab_size()).map_err(failed)?;
        let words: Vec<Vec<u8>> = (0..count).map(|token| word(tokenizer, token)).collect();
        let ends: Vec<u32> = tokenizer.end_tokens().iter().copied().filter(|&token| token < count).collect();
        let trie = TokTrie::from(&TokRxInfo::new(count, ends.first().copied().unwrap_or(u32::MAX)), &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(failed)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.step_max_items = STEP_ITEMS;
        let mut specials: Vec<(Vec<u8>, u32)> = (0..count)
            .filter(|&token| matches!(tokenizer.kind(token), TokenKind::Control | TokenKind::UserDefined))
            .map(|token| (tokenizer.piece(token).to_vec(), token))
            .collect();
        specials.sort_unstable();
        let names = move |name: &str| {
            let found = specials.binary_search_by(|(text, _)| text.as_slice().cmp(name.as_bytes())).ok()?;
            Some(specials[found].1)
        };
        Ok(Self { factory, names: Box::new(names) })
    }

    /// The token with this text in grammars.
    pub(super) fn token(&self, name: &str) -> Option<u32> {
        (self.names)(name).or_else(|| self.factory.tok_env().tok_trie().token_id(name.as_bytes()))
    }

    pub(super) fn lark(&self, text: &str) -> Result<Compiled, Error> {
        self.compile(TopLevelGrammar::from_lark(text.to_owned()))
    }

    pub(super) fn regex(&self, text: &str) -> Result<Compiled, Error> {
        // The whole answer must match, with or without anchors.
        let text = text.strip_prefix('^').unwrap_or(text);
        let escapes = text.strip_suffix('$').map(|rest| rest.len() - rest.trim_end_matches('\\').len());
        let text = if escapes.is_some_and(|n| n % 2 == 0) { &text[..text.len() - 1] } else { text };
        if text.is_empty() {
            return Err(failed("an empty expression"));
        }
        self.compile(TopLevelGrammar::from_lark(format!("start: /{}/", regex_to_lark(text, ""))))
    }

    pub(super) fn json_schema(&self, schema: &Json) -> Result<Compiled, Error> {
        let schema = match schema {
            Json::Object(map) => map.clone(),
            Json::Bool(true) => serde_json::Map::new(),
            _ => return Err(failed("a JSON schema must be an object")),
        };
        self.compile(TopLevelGrammar::from_json_schema(spaced(schema)))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Compiled, Error> {
        let parser =
            llguidance::panic_utils::catch_unwind(std::panic::AssertUnwindSafe(|| self.factory.create_parser(grammar)));
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(failed(error)),
            None => Ok(Compiled(Arc::new(Mutex::new(matcher)))),
        }
    }
}

/// The bytes of a token; for a control token, they follow a byte that no text has. Empty for a token that is not in texts.
fn word(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let piece = tokenizer.piece(token);
    match tokenizer.kind(token) {
        _ if piece.len() > LONGEST_TOKEN || piece.first() == Some(&MARKER) => Vec::new(),
        TokenKind::Control | TokenKind::Unknown => [&[MARKER], piece].concat(),
        TokenKind::Unused => Vec::new(),
        TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte => piece.to_vec(),
    }
}

/// A compiled rule.
#[derive(Clone)]
pub(super) struct Compiled(Arc<Mutex<Matcher>>);

impl Compiled {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Another that shares nothing with it: what one has computed counts against the limits of that one alone.
    pub(super) fn fresh(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).deep_clone())))
    }

    /// The beginning of an answer.
    pub(super) fn start(&self) -> State {
        State(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The state of a rule within an answer.
pub(super) struct State(Matcher);

impl State {
    /// Excludes all tokens that are not allowed next, except those of `also`, by setting their logits to NaN.
    pub(super) fn mask(&mut self, logits: &mut [f32], also: &[u32]) -> Result<(), Error> {
        let allowed = self.0.compute_mask_or_eos().map_err(failed)?;
        let kept: Vec<(u32, f32)> =
            also.iter().filter_map(|&token| Some((token, *logits.get(token as usize)?))).collect();
        let (whole, rest) = logits.as_chunks_mut::<32>();
        let mut words = allowed.as_slice().iter().copied();
        for chunk in whole {
            match words.next().unwrap_or(0) {
                u32::MAX => {}
                0 => chunk.fill(f32::NAN),
                word => chunk
                    .iter_mut()
                    .enumerate()
                    .filter(|(i, _)| word >> i & 1 == 0)
                    .for_each(|(_, logit)| *logit = f32::NAN),
            }
        }
        let word = words.next().unwrap_or(0);
        rest.iter_mut().enumerate().filter(|(i, _)| word >> i & 1 == 0).for_each(|(_, logit)| *logit = f32::NAN);
        for (token, logit) in kept {
            logits[token as usize] = logit;
        }
        Ok(())
    }

    /// Whether the rule allows `token` next.
    pub(super) fn allows(&mut self, token: u32) -> Result<bool, Error> {
        Ok(!self.0.is_stopped() && self.0.validate_tokens(&[token]).map_err(failed)? == 1)
    }

    /// Advances by an allowed token.
    pub(super) fn accept(&mut self, token: u32) -> Result<(), Error> {
        self.0.consume_token(token).map_err(failed)
    }

    /// Advances by a text as far as it is allowed. Returns whether all of it was.
    pub(super) fn accept_text(&mut self, text: &[u8]) -> Result<bool, Error> {
        let tokens = self.0.tok_env().map_err(failed)?.tokenize_bytes(text);
        Ok(self.0.try_consume_tokens(&tokens).map_err(failed)? == tokens.len())
    }

    /// Whether the rule allows no further token.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_stopped()
    }
}
