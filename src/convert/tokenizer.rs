//! Converts a checkpoint's tokenizer to metadata, in the order of llama.cpp's converter.

use serde_json::{Map, Value as Json};

use super::added_tokens;
use super::error::{Error, TokenizerProblem};
use super::sentencepiece::{ModelType, Sentencepiece};
use super::tekken::{self, Tekken};
use super::tokenizer_file::TokenizerFile;
use super::vocabulary::{ADDED_SCORE, EMPTY_SCORE, Tokens, Vocabulary, index, token_count};
use super::{Folder, special_tokens, tiktoken, tokenizer_json, vocab_files};
use crate::arch::{Config, TokenKey};
use crate::gguf::{Array, Metadata, Value, keys};
use crate::model::tokenizer::flags_by_name;
use crate::tokenizer::{AddedTokenFlags, TokenKind};

/// Results of converting a tokenizer besides its metadata.
pub(super) struct Written {
    /// Texts of end tokens for which no key is left.
    pub(super) unnamed_ends: Vec<String>,
    /// Tokens for which the model has no row: ids and texts.
    pub(super) left_out: Vec<(u64, String)>,
    flags: AddedTokenFlags,
    tokens: Tokens,
}

impl Written {
    /// Adds keys for how added tokens are matched in texts, if llama.cpp's rules for a model of this `name` would differ.
    pub(super) fn write_flags(&self, name: &str, metadata: &mut Metadata) {
        write_flags(&self.flags, name, &self.tokens, metadata);
    }
}

/// Adds the tokenizer of `folder` to `metadata`, with the `changes` of its family. `pre` names a pre-tokenizer, which is
/// otherwise recognized.
///
/// # Errors
/// When there is none, or it cannot be expressed.
pub(super) fn write(
    folder: &Folder,
    config: &Config,
    changes: &[TokenKey],
    pre: Option<&str>,
    metadata: &mut Metadata,
) -> Result<Written, Error> {
    let settings = folder.json("tokenizer_config.json")?;
    let mut settings = settings.as_ref().and_then(Json::as_object).cloned().unwrap_or_default();
    let vocab_size = vocab_size(config)?;
    let mut file: Option<TokenizerFile> = folder.parse("tokenizer.json")?;
    let fault = |name: &str, problem| Error::Tokenizer { path: folder.path(name), problem };
    let tekken: Option<Tekken> = if file.is_none() { folder.parse("tekken.json")? } else { None };
    if let Some(tekken) = &tekken {
        let made = tekken.tokenizer().map_err(|problem| fault("tekken.json", problem))?;
        tekken::settings(&made, &mut settings);
        file = Some(made);
    }
    // A list of merges is in the other file alone.
    let listed_merges = file.is_some() && changes.contains(&TokenKey::MergesOfCharacters);
    let sentencepiece = if listed_merges || tekken.is_some() { None } else { read_sentencepiece(folder)? };
    if file.is_none() && sentencepiece.is_none() {
        file = tiktoken::read(folder, &mut settings)?;
    }
    if file.is_none() && sentencepiece.is_none() {
        file = vocab_files::read(folder, &settings)?;
    }
    let (mut vocabulary, json) = match (&sentencepiece, file) {
        (Some(model), file) => {
            let json = file.map(|file| file.json);
            (from_sentencepiece(folder, &settings, json.as_ref(), model, vocab_size)?, json)
        }
        (None, Some(mut file)) => {
            let added = added_tokens::read(folder, &settings, Some(&file.json), |text| file.vocab.id(text))?;
            added_tokens::put(&added, &mut file.json);
            let json = file.json.clone();
            let vocabulary = tokenizer_json::read(file, vocab_size, changes, pre)
                .map_err(|problem| fault(if tekken.is_some() { "tekken.json" } else { "tokenizer.json" }, problem))?;
            let left_out = added_tokens::past(&added, vocabulary.tokens.texts.len()).collect();
            (Vocabulary { added, left_out, ..vocabulary }, Some(json))
        }
        (None, None) => return Err(fault("", TokenizerProblem::NoFile)),
    };
    let of_model = sentencepiece.as_ref().filter(|_| changes.contains(&TokenKey::SpacePrefixOfModel));
    if vocabulary.model == "llama" && of_model.is_none() {
        let set = settings.get("add_prefix_space").and_then(Json::as_bool);
        let prefix = match vocabulary.space_prefix {
            // The tokenizer's own behaviour decides; the default, a space, needs no key.
            Some(own) => Some(own).filter(|own| set.is_some() || !own),
            None => set,
        };
        if let Some(prefix) = prefix {
            metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, prefix);
        }
    }
    for change in changes {
        match change {
            TokenKey::Control(text) => vocabulary.tokens.set_kind(text, TokenKind::Control),
            TokenKey::Unused(start) => vocabulary.tokens.set_unused(start),
            _ => {}
        }
    }
    vocabulary.types = changes.iter().find_map(|change| match change {
        TokenKey::Types(types) => Some(*types),
        _ => None,
    });
    for change in changes {
        if let TokenKey::First(kind, add) = change {
            metadata.set(format!("tokenizer.ggml.add_{kind}_token"), *add);
        }
    }
    vocabulary.write(metadata);
    if let Some(model) = of_model {
        metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, model.spaces.prefix);
    }
    let unnamed_ends = special_tokens::write(folder, &settings, json.as_ref(), &vocabulary, changes, metadata)?;
    if let Some(id) = vocabulary.unknown.and_then(|id| u32::try_from(id).ok())
        && metadata.get(keys::TOKENIZER_UNKNOWN_ID).is_none()
    {
        metadata.set(keys::TOKENIZER_UNKNOWN_ID, Value::U32(id));
    }
    vocabulary.write_types(metadata);
    for (key, value) in vocabulary.last {
        metadata.set(key, value);
    }
    if tekken.is_some() {
        tekken::in_order(metadata);
    }
    let flags = added_tokens::flags(&vocabulary.added, vocabulary.tokens.texts.len(), vocabulary.normalizes);
    Ok(Written { unnamed_ends, left_out: vocabulary.left_out, flags, tokens: vocabulary.tokens })
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
    json: Option<&Json>,
    model: &Sentencepiece,
    vocab_size: Option<usize>,
) -> Result<Vocabulary, Error> {
    let id_of = |text: &str| model.pieces.iter().position(|piece| piece.text == text.as_bytes()).map(|id| id as u64);
    let added = added_tokens::read(folder, settings, json, id_of)?;
    let ids = (0..model.pieces.len() as u64).chain(added.iter().map(|token| token.id));
    let count = match vocab_size {
        None => model.pieces.len(),
        size => {
            token_count(size, ids).map_err(|problem| Error::Tokenizer { path: folder.path("config.json"), problem })?
        }
    };
    let (tokens, scores) = sentencepiece_tokens(folder, settings, json, model, count)?;
    let pieces = (0..).zip(&model.pieces).skip(count);
    let pieces = pieces.map(|(id, piece)| (id, String::from_utf8_lossy(&piece.text).into_owned()));
    let left_out = pieces.chain(added_tokens::past(&added, count)).collect();
    let default = Some("default".to_owned());
    let mut vocabulary = Vocabulary { scores, added, left_out, ..Vocabulary::new("llama", default, tokens) };
    if model.model_type == ModelType::Unigram {
        vocabulary.model = "t5";
        vocabulary.unigram = Some(model.spaces.clone());
        vocabulary.unknown = vocabulary.tokens.kinds.iter().position(|kind| *kind == TokenKind::Unknown);
    }
    Ok(vocabulary)
}

fn vocab_size(config: &Config) -> Result<Option<usize>, Error> {
    config.count(&["vocab_size"]).map_err(|source| Error::Architecture { path: "config.json".into(), source })
}

fn sentencepiece_tokens(
    folder: &Folder,
    settings: &Map<String, Json>,
    json: Option<&Json>,
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
    let mut put = |id: Option<u64>, (text, kind): (Vec<u8>, TokenKind), everywhere: bool| {
        if let Some(id) = index(id, count).filter(|&id| everywhere || scores[id] == EMPTY_SCORE) {
            tokens.set(id, text, kind);
            scores[id] = ADDED_SCORE;
        }
    };
    let added = folder.json("added_tokens.json")?;
    for (text, id) in added.as_ref().and_then(Json::as_object).into_iter().flatten() {
        put(id.as_u64(), (text.clone().into_bytes(), TokenKind::UserDefined), true);
    }
    for token in added_tokens::of_settings(settings).unwrap_or_default() {
        put(Some(token.id), token.entry(), true);
    }
    // The other file has tokens for ids that are otherwise unused.
    for token in json.into_iter().flat_map(added_tokens::of_json) {
        put(Some(token.id), token.entry(), false);
    }
    Ok((tokens, scores))
}

/// Adds keys for `flags`, unless there are none or llama.cpp's rules give the same for a model of this `name`.
fn write_flags(flags: &AddedTokenFlags, name: &str, tokens: &Tokens, metadata: &mut Metadata) {
    if *flags == flags_by_name(name, &tokens.texts, &tokens.kinds) {
        return;
    }
    let lists = [
        (keys::ADDED_TOKENS_LSTRIP, &flags.lstrip),
        (keys::ADDED_TOKENS_RSTRIP, &flags.rstrip),
        (keys::ADDED_TOKENS_SINGLE_WORD, &flags.single_word),
        (keys::ADDED_TOKENS_NORMALIZED, &flags.normalized),
    ];
    for (key, ids) in lists {
        if !ids.is_empty() {
            metadata.set(key, Value::Array(Array::from(&ids[..])));
        }
    }
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
