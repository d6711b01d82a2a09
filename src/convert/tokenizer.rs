//! A checkpoint's tokenizer as metadata, in the order in which llama.cpp's converter writes it.

use serde_json::{Map, Value as Json};

use super::error::{Error, TokenizerProblem};
use super::metaspace::Metaspace;
use super::sentencepiece::{ModelType, Sentencepiece};
use super::tokenizer_file::TokenizerFile;
use super::{Folder, special_tokens, tokenizer_json};
use crate::arch::{Config, TokenKey};
use crate::gguf::{Array, Metadata, Value, keys};
use crate::tokenizer::TokenKind;

/// Score of tokens that were added to a sentencepiece model.
pub(super) const ADDED_SCORE: f32 = -1000.0;
/// Score of places without a token.
pub(super) const EMPTY_SCORE: f32 = -10000.0;

/// The tokens of a vocabulary, before they are metadata.
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

    /// Makes the control token `text` one that is shown.
    pub(super) fn show(&mut self, text: &str) {
        for (_, kind) in self.texts.iter().zip(&mut self.kinds).filter(|(token, _)| token.as_slice() == text.as_bytes())
        {
            *kind = TokenKind::UserDefined;
        }
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
    /// Which tokenizer, as files name it.
    pub(super) model: &'static str,
    pub(super) pre: Option<String>,
    pub(super) tokens: Tokens,
    /// Scores of the tokens, where they have some.
    pub(super) scores: Vec<f32>,
    pub(super) merges: Option<Vec<String>>,
    /// Whether a space is put before texts, where the folder's settings do not decide it.
    pub(super) space_prefix: Option<bool>,
    /// What a unigram tokenizer does to texts.
    pub(super) unigram: Option<Metaspace>,
    /// The token for what is unknown, where no setting names it.
    pub(super) unknown: Option<usize>,
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
            unknown: None,
            last: Vec::new(),
        }
    }

    /// Writes all keys up to those of special tokens.
    fn write(&self, metadata: &mut Metadata) {
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

/// Adds the tokenizer of `folder` to `metadata`, with the `changes` of its family. `pre` names a pre-tokenizer where
/// it shall not be recognized. Returns the texts of those end tokens that no key is left for.
///
/// # Errors
/// When there is none, or it cannot be expressed.
pub(super) fn write(
    folder: &Folder,
    config: &Config,
    changes: &[TokenKey],
    pre: Option<&str>,
    metadata: &mut Metadata,
) -> Result<Vec<String>, Error> {
    let settings = folder.json("tokenizer_config.json")?;
    let settings = settings.as_ref().and_then(Json::as_object).cloned().unwrap_or_default();
    let vocab_size = vocab_size(config)?;
    let file: Option<TokenizerFile> = folder.parse("tokenizer.json")?;
    // Where merges are listed, they are in the other file alone.
    let listed_merges = file.is_some() && changes.contains(&TokenKey::MergesOfCharacters);
    let sentencepiece = if listed_merges { None } else { read_sentencepiece(folder)? };
    let json = file.as_ref().map(|file| file.json.clone());
    let vocabulary = match (&sentencepiece, file) {
        (Some(model), _) => from_sentencepiece(folder, &settings, model, vocab_size)?,
        (None, Some(file)) => tokenizer_json::read(file, vocab_size, changes, pre)
            .map_err(|problem| Error::Tokenizer { path: folder.path("tokenizer.json"), problem })?,
        (None, None) => return Err(Error::Tokenizer { path: folder.path(""), problem: TokenizerProblem::NoFile }),
    };
    if vocabulary.model == "llama" {
        let set = settings.get("add_prefix_space").and_then(Json::as_bool);
        let prefix = match vocabulary.space_prefix {
            // What the tokenizer does counts; one that puts a space there needs no word.
            Some(own) => Some(own).filter(|own| set.is_some() || !own),
            None => set,
        };
        if let Some(prefix) = prefix {
            metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, prefix);
        }
    }
    vocabulary.write(metadata);
    let unnamed_ends = special_tokens::write(folder, &settings, json.as_ref(), &vocabulary.tokens, changes, metadata)?;
    if let Some(id) = vocabulary.unknown.and_then(|id| u32::try_from(id).ok())
        && metadata.get(keys::TOKENIZER_UNKNOWN_ID).is_none()
    {
        metadata.set(keys::TOKENIZER_UNKNOWN_ID, Value::U32(id));
    }
    for (key, value) in vocabulary.last {
        metadata.set(key, value);
    }
    Ok(unnamed_ends)
}

fn read_sentencepiece(folder: &Folder) -> Result<Option<Sentencepiece>, Error> {
    for name in ["tokenizer.model", "spiece.model"] {
        if let Some(bytes) = folder.read(name)? {
            let fault = |problem| Error::Tokenizer { path: folder.path(name), problem };
            return Sentencepiece::parse(&bytes).map(Some).map_err(fault);
        }
    }
    Ok(None)
}

fn from_sentencepiece(
    folder: &Folder,
    settings: &Map<String, Json>,
    model: &Sentencepiece,
    vocab_size: Option<usize>,
) -> Result<Vocabulary, Error> {
    let count = vocab_size.unwrap_or(model.pieces.len());
    let (tokens, scores) = sentencepiece_tokens(folder, settings, model, count)?;
    let default = Some("default".to_owned());
    if model.model_type == ModelType::Unigram {
        let unigram = Some(model.spaces.clone());
        let unknown = tokens.kinds.iter().position(|kind| *kind == TokenKind::Unknown);
        return Ok(Vocabulary { scores, unigram, unknown, ..Vocabulary::new("t5", default, tokens) });
    }
    Ok(Vocabulary { scores, ..Vocabulary::new("llama", default, tokens) })
}

fn vocab_size(config: &Config) -> Result<Option<usize>, Error> {
    config
        .count(&["vocab_size"])
        .map_err(|source| Error::Architecture { path: "config.json".into(), source })
        .map(|size| size.filter(|&n| n <= 1 << 24))
}

fn sentencepiece_tokens(
    folder: &Folder,
    settings: &Map<String, Json>,
    model: &Sentencepiece,
    count: usize,
) -> Result<(Tokens, Vec<f32>), Error> {
    let mut tokens = Tokens::empty(count);
    let mut scores = vec![EMPTY_SCORE; count];
    for (id, piece) in model.pieces.iter().enumerate().take(count) {
        let kind = if piece.kind == TokenKind::UserDefined { TokenKind::Normal } else { piece.kind };
        tokens.set(id, piece.text.clone(), kind);
        scores[id] = piece.score;
    }
    let added = folder.json("added_tokens.json")?;
    for (text, id) in added.as_ref().and_then(Json::as_object).into_iter().flatten() {
        if let Some(id) = index(id.as_u64(), count) {
            tokens.set(id, text.clone().into_bytes(), TokenKind::UserDefined);
            scores[id] = ADDED_SCORE;
        }
    }
    let decoder = settings.get("added_tokens_decoder").and_then(Json::as_object);
    for (id, token) in decoder.into_iter().flatten() {
        let text = token.get("content").and_then(Json::as_str).unwrap_or_default();
        if let Some(id) = index(id.parse().ok(), count) {
            let special = token.get("special").and_then(Json::as_bool).unwrap_or(false);
            let (text, kind) = added_token(text, special);
            tokens.set(id, text.into_bytes(), kind);
            scores[id] = ADDED_SCORE;
        }
    }
    Ok((tokens, scores))
}

pub(super) fn index(id: Option<u64>, count: usize) -> Option<usize> {
    id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < count)
}

/// Text and kind of a token that was added to a vocabulary.
pub(super) fn added_token(text: &str, special: bool) -> (String, TokenKind) {
    let bracketed = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    let looks_special = matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || bracketed("<|", "|>")
        || bracketed("<｜", "｜>")
        || bracketed("<unused", ">");
    if special || looks_special {
        (text.to_owned(), TokenKind::Control)
    } else {
        (text.replace('▁', " "), TokenKind::UserDefined)
    }
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
