//! A vocabulary before it is written as metadata: tokens, scores, merges, and settings.

use super::added_tokens::AddedToken;
use super::error::TokenizerProblem;
use super::metaspace::Metaspace;
use crate::gguf::{Array, Metadata, Value, keys};
use crate::tokenizer::TokenKind;

/// Score of tokens that were added to a sentencepiece model.
pub(super) const ADDED_SCORE: f32 = -1000.0;
/// Score of unused ids.
pub(super) const EMPTY_SCORE: f32 = -10000.0;

/// Unused ids that a vocabulary may have in addition to its own number of tokens: embeddings are padded, and models with a small
/// tokenizer may keep the size of a large one.
const MOST_PADDING: usize = 1 << 19;

/// The tokens of a vocabulary.
pub(super) struct Tokens {
    pub(super) texts: Vec<Vec<u8>>,
    pub(super) kinds: Vec<TokenKind>,
}

impl Tokens {
    pub(super) fn empty(count: usize) -> Self {
        Self {
            texts: (0..count).map(|i| format!("[PAD{i}]").into_bytes()).collect(),
            kinds: vec![TokenKind::Unused; count],
        }
    }

    pub(super) fn set(&mut self, id: usize, text: Vec<u8>, kind: TokenKind) {
        self.texts[id] = text;
        self.kinds[id] = kind;
    }

    /// Makes the token `text` one of this kind.
    pub(super) fn set_kind(&mut self, text: &str, to: TokenKind) {
        for (_, kind) in self.texts.iter().zip(&mut self.kinds).filter(|(token, _)| token.as_slice() == text.as_bytes())
        {
            *kind = to;
        }
    }

    /// Makes the pieces whose texts begin with `start` unused ones.
    pub(super) fn set_unused(&mut self, start: &str) {
        let kinds = self.texts.iter().zip(&mut self.kinds);
        let pieces = kinds.filter(|(text, kind)| **kind == TokenKind::Normal && text.starts_with(start.as_bytes()));
        pieces.for_each(|(_, kind)| *kind = TokenKind::Unused);
    }

    pub(super) fn text(&self, id: usize) -> String {
        String::from_utf8_lossy(&self.texts[id]).into_owned()
    }

    /// Texts of the tokens that are pieces of text.
    pub(super) fn normal(&self) -> impl Iterator<Item = &str> {
        let normal = self.texts.iter().zip(&self.kinds).filter(|(_, kind)| **kind == TokenKind::Normal);
        normal.filter_map(|(text, _)| std::str::from_utf8(text).ok())
    }
}

/// A tokenizer without its special tokens.
pub(super) struct Vocabulary {
    /// The kind of tokenizer, by its name in files.
    pub(super) model: &'static str,
    pub(super) pre: Option<String>,
    pub(super) tokens: Tokens,
    /// Scores of the tokens, if they have any.
    pub(super) scores: Vec<f32>,
    pub(super) merges: Option<Vec<String>>,
    /// Whether a space is put before texts, unless the folder's settings decide it.
    pub(super) space_prefix: Option<bool>,
    /// Normalization of a unigram tokenizer.
    pub(super) unigram: Option<Metaspace>,
    /// Number of token types, for families with embeddings of them.
    pub(super) types: Option<usize>,
    /// The unknown token, if no setting names it.
    pub(super) unknown: Option<usize>,
    /// Tokens that were added to the vocabulary.
    pub(super) added: Vec<AddedToken>,
    /// Whether some added tokens are matched in the normalized text.
    pub(super) normalizes: bool,
    /// Tokens for which the model has no row.
    pub(super) left_out: Vec<(u64, String)>,
    /// Keys that come last.
    pub(super) last: Vec<(&'static str, Value)>,
}

impl Vocabulary {
    pub(super) fn new(model: &'static str, pre: Option<String>, tokens: Tokens) -> Self {
        Self {
            model,
            pre,
            tokens,
            scores: Vec::new(),
            merges: None,
            space_prefix: None,
            unigram: None,
            types: None,
            unknown: None,
            added: Vec::new(),
            normalizes: false,
            left_out: Vec::new(),
            last: Vec::new(),
        }
    }

    /// The id of the added token with this text.
    pub(super) fn added_id(&self, text: &str) -> Option<u64> {
        self.added.iter().find(|token| token.text == text).map(|token| token.id)
    }

    /// Writes the number of token types.
    pub(super) fn write_types(&self, metadata: &mut Metadata) {
        if let Some(types) = self.types {
            metadata.set(keys::TOKENIZER_TOKEN_TYPE_COUNT, Value::U32(u32::try_from(types).unwrap_or(u32::MAX)));
        }
    }

    /// Writes all keys up to those of special tokens.
    pub(super) fn write(&self, metadata: &mut Metadata) {
        // The position of this key in the reference converter depends on the kind of tokenizer.
        if self.model == "bert" {
            self.write_types(metadata);
        }
        metadata.set(keys::TOKENIZER_MODEL, self.model);
        if let Some(pre) = &self.pre {
            metadata.set(keys::TOKENIZER_PRE, pre.as_str());
        }
        metadata.set(keys::TOKENIZER_TOKENS, Value::Array(Array::strings(&self.tokens.texts)));
        if !self.scores.is_empty() {
            metadata.set(keys::TOKENIZER_SCORES, Value::Array(Array::from(&self.scores[..])));
        }
        let kinds: Vec<i32> = self.tokens.kinds.iter().map(|kind| kind.number()).collect();
        metadata.set(keys::TOKENIZER_TOKEN_TYPE, Value::Array(Array::from(&kinds[..])));
        if let Some(spaces) = &self.unigram {
            metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, spaces.prefix);
            self.write_types(metadata);
            metadata.set(keys::TOKENIZER_REMOVE_EXTRA_SPACES, spaces.merge_spaces);
            if !spaces.character_map.is_empty() {
                metadata.set(keys::TOKENIZER_CHARACTER_MAP, Value::Array(Array::from(&spaces.character_map[..])));
            }
        }
        if let Some(merges) = &self.merges {
            metadata.set(keys::TOKENIZER_MERGES, Value::Array(Array::strings(merges)));
        }
    }
}

pub(super) fn index(id: Option<u64>, count: usize) -> Option<usize> {
    id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < count)
}

/// Number of tokens of a model with this `vocab_size`, whose files have tokens with these `ids`.
///
/// # Errors
/// When that is far more than the files have, because each unused id takes memory.
pub(super) fn token_count(
    vocab_size: Option<usize>,
    ids: impl Iterator<Item = u64>,
) -> Result<usize, TokenizerProblem> {
    let (held, highest) = ids.fold((0usize, 0), |(held, highest), id| (held + 1, highest.max(id)));
    let count = vocab_size.unwrap_or_else(|| usize::try_from(highest.saturating_add(1)).unwrap_or(usize::MAX));
    let most = held.saturating_mul(2).saturating_add(MOST_PADDING);
    if count > most { Err(TokenizerProblem::Padding { count, held }) } else { Ok(count) }
}
