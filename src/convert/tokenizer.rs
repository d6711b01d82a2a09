//! A checkpoint's tokenizer as metadata, in the order in which llama.cpp's converter writes it.

use serde_json::{Map, Value as Json};

use super::error::{Error, TokenizerProblem};
use super::sentencepiece::Sentencepiece;
use super::{Folder, pre_tokenizer};
use crate::arch::{Config, TokenKey};
use crate::gguf::{Array, Metadata, Value, keys};
use crate::tokenizer::TokenKind;

/// Score of tokens that were added to a sentencepiece model.
const ADDED_SCORE: f32 = -1000.0;
/// Score of places without a token.
const EMPTY_SCORE: f32 = -10000.0;

/// The tokens of a vocabulary, before they are metadata.
struct Tokens {
    texts: Vec<Vec<u8>>,
    kinds: Vec<TokenKind>,
}

impl Tokens {
    fn empty(count: usize) -> Self {
        Self {
            texts: (0..count).map(|i| format!("[PAD{i}]").into_bytes()).collect(),
            kinds: vec![TokenKind::Unused; count],
        }
    }

    fn set(&mut self, id: usize, text: Vec<u8>, kind: TokenKind) {
        self.texts[id] = text;
        self.kinds[id] = kind;
    }

    fn write(&self, metadata: &mut Metadata, scores: Option<&[f32]>) {
        metadata.set(keys::TOKENIZER_TOKENS, Value::Array(Array::strings(&self.texts)));
        if let Some(scores) = scores {
            metadata.set(keys::TOKENIZER_SCORES, Value::Array(Array::from(scores)));
        }
        let kinds: Vec<i32> = self.kinds.iter().map(|kind| kind.number()).collect();
        metadata.set(keys::TOKENIZER_TOKEN_TYPE, Value::Array(Array::from(&kinds[..])));
    }
}

/// Adds the tokenizer of `folder` to `metadata`, with the `changes` of its family. `pre` names a pre-tokenizer where
/// it shall not be recognized.
///
/// # Errors
/// When there is none, or it cannot be expressed.
pub(super) fn write(
    folder: &Folder,
    config: &Config,
    changes: &[TokenKey],
    pre: Option<&str>,
    metadata: &mut Metadata,
) -> Result<(), Error> {
    let settings = folder.json("tokenizer_config.json")?;
    let settings = settings.as_ref().and_then(Json::as_object).cloned().unwrap_or_default();
    let vocab_size = vocab_size(config)?;
    if let Some(model) = folder.read("tokenizer.model")? {
        let fault = |problem| Error::Tokenizer { path: folder.path("tokenizer.model"), problem };
        if let Some(prefix) = settings.get("add_prefix_space").and_then(Json::as_bool) {
            metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, prefix);
        }
        let model = Sentencepiece::parse(&model).map_err(fault)?;
        let count = vocab_size.unwrap_or(model.pieces.len());
        let (tokens, scores) = sentencepiece_tokens(folder, &settings, &model, count)?;
        metadata.set(keys::TOKENIZER_MODEL, "llama");
        metadata.set(keys::TOKENIZER_PRE, "default");
        tokens.write(metadata, Some(&scores));
        return special(folder, &settings, None, count, changes, metadata);
    }
    let Some(json) = folder.json("tokenizer.json")? else {
        return Err(Error::Tokenizer { path: folder.path(""), problem: TokenizerProblem::NoFile });
    };
    let fault = |problem| Error::Tokenizer { path: folder.path("tokenizer.json"), problem };
    let (tokens, merges) = byte_pair_tokens(&json, vocab_size).map_err(fault)?;
    let pre = match pre {
        Some(name) => name.to_owned(),
        None => pre_tokenizer::recognize(&json).map_err(fault)?.to_owned(),
    };
    metadata.set(keys::TOKENIZER_MODEL, "gpt2");
    metadata.set(keys::TOKENIZER_PRE, pre);
    tokens.write(metadata, None);
    metadata.set(keys::TOKENIZER_MERGES, Value::Array(Array::strings(&merges)));
    special(folder, &settings, Some(&json), tokens.texts.len(), changes, metadata)
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

fn index(id: Option<u64>, count: usize) -> Option<usize> {
    id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < count)
}

/// Text and kind of a token that was added to a vocabulary.
fn added_token(text: &str, special: bool) -> (String, TokenKind) {
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

/// Tokens and merges of a `tokenizer.json`.
fn byte_pair_tokens(json: &Json, vocab_size: Option<usize>) -> Result<(Tokens, Vec<String>), TokenizerProblem> {
    let structure = |path, expected| TokenizerProblem::Structure { path, expected };
    let model = json.get("model").ok_or(structure("model", "a model"))?;
    if !matches!(model.get("type").and_then(Json::as_str), None | Some("BPE")) {
        return Err(structure("model.type", "BPE"));
    }
    let vocab =
        model.get("vocab").and_then(Json::as_object).ok_or(structure("model.vocab", "tokens with their ids"))?;
    let added = json.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let ids = vocab.values().chain(added.iter().filter_map(|token| token.get("id"))).filter_map(Json::as_u64);
    let highest = ids.max().ok_or(structure("model.vocab", "at least one token"))?;
    let count = vocab_size.unwrap_or_else(|| usize::try_from(highest + 1).unwrap_or(usize::MAX));
    if highest >= count as u64 {
        return Err(TokenizerProblem::Vocabulary { token: highest, vocab_size: count });
    }
    let mut tokens = Tokens::empty(count);
    for (text, id) in vocab {
        if let Some(id) = index(id.as_u64(), count) {
            tokens.set(id, text.clone().into_bytes(), TokenKind::Normal);
        }
    }
    for token in added {
        let text = token.get("content").and_then(Json::as_str).ok_or(structure("added_tokens", "a content each"))?;
        let special = token.get("special").and_then(Json::as_bool).unwrap_or(false);
        if let Some(id) = index(token.get("id").and_then(Json::as_u64), count) {
            let (text, kind) = added_token(text, special);
            tokens.set(id, text.into_bytes(), kind);
        }
    }
    let merges = model.get("merges").and_then(Json::as_array).ok_or(structure("model.merges", "a list"))?;
    let merges = merges.iter().map(merge).collect::<Option<Vec<_>>>().ok_or(structure("model.merges", "pairs"))?;
    Ok((tokens, merges))
}

/// A merge as one string, from one or from a pair; spaces within a part are written as the byte-level alphabet does.
fn merge(json: &Json) -> Option<String> {
    if let Some(text) = json.as_str() {
        return Some(text.to_owned());
    }
    let part = |i: usize| Some(json.get(i)?.as_str()?.replace(' ', "Ġ"));
    Some(format!("{} {}", part(0)?, part(1)?))
}

/// Special tokens' ids, whether they are added, and the chat template.
fn special(
    folder: &Folder,
    settings: &Map<String, Json>,
    json: Option<&Json>,
    count: usize,
    changes: &[TokenKey],
    metadata: &mut Metadata,
) -> Result<(), Error> {
    const KINDS: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
    let mut ids: Vec<(&str, u64)> = Vec::new();
    let mut adds: Vec<(&str, bool)> = Vec::new();
    if let Some(json) = json {
        post_processor(json, settings, &mut adds);
    }
    let added = json.and_then(|json| json.get("added_tokens")).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let id_of = |text: &str| {
        let token = added.iter().find(|token| token.get("content").and_then(Json::as_str) == Some(text))?;
        token.get("id")?.as_u64()
    };
    for kind in KINDS {
        let add = settings.get(&format!("add_{kind}_token")).and_then(Json::as_bool);
        if let Some(add) = add.filter(|_| adds.iter().all(|(known, _)| *known != kind)) {
            adds.push((kind, add));
        }
        let entry = settings.get(&format!("{kind}_token"));
        let text = entry.and_then(|entry| entry.as_str().or_else(|| entry.get("content")?.as_str()));
        if let Some(id) = text.and_then(id_of) {
            ids.push((kind, id));
        }
    }
    let config = folder.json("config.json")?.unwrap_or_default();
    for kind in KINDS {
        let name = format!("{kind}_token_id");
        let found = config.get(&name).filter(|id| !id.is_null());
        let id = found.or_else(|| config.get("text_config")?.get(&name)).and_then(Json::as_u64);
        if let Some(id) = id.filter(|&id| id < count as u64 && ids.iter().all(|(known, _)| *known != kind)) {
            ids.push((kind, id));
        }
    }
    for change in changes {
        if let TokenKey::Text(kind, text) = change
            && let Some(id) = id_of(text)
        {
            match ids.iter_mut().find(|(known, _)| known == kind) {
                Some(entry) => entry.1 = id,
                None => ids.push((kind, id)),
            }
        }
    }
    for (kind, id) in ids {
        set_id(kind, u32::try_from(id).unwrap_or(u32::MAX), metadata);
    }
    for (kind, add) in adds {
        if matches!(kind, "bos" | "eos" | "sep") {
            metadata.set(format!("tokenizer.ggml.add_{kind}_token"), add);
        }
    }
    if let Some(template) = chat_template(folder, settings)? {
        metadata.set(keys::TOKENIZER_CHAT_TEMPLATE, template);
    }
    for change in changes {
        match change {
            TokenKey::Id(kind, id) if (*id as usize) < count => set_id(kind, *id, metadata),
            TokenKey::SpacePrefix(prefix) => metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, *prefix),
            TokenKey::Id(..) | TokenKey::Text(..) => {}
        }
    }
    Ok(())
}

fn set_id(kind: &str, id: u32, metadata: &mut Metadata) {
    let name = match kind {
        "unk" => "unknown",
        "sep" => "seperator",
        "pad" => "padding",
        other => other,
    };
    metadata.set(format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
}

/// What the post-processor of a `tokenizer.json` adds to texts.
fn post_processor(json: &Json, settings: &Map<String, Json>, adds: &mut Vec<(&'static str, bool)>) {
    let Some(processor) = json.get("post_processor").filter(|p| !p.is_null()) else { return };
    let single = std::slice::from_ref(processor);
    let all = processor.get("processors").and_then(Json::as_array).map_or(single, Vec::as_slice);
    let mut put = |kind: &'static str, value: bool, force: bool| match adds.iter_mut().find(|(known, _)| *known == kind)
    {
        Some(entry) if force => entry.1 = value,
        Some(_) => {}
        None => adds.push((kind, value)),
    };
    let name = |key: &str| settings.get(key).and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str()));
    for processor in all {
        match processor.get("type").and_then(Json::as_str) {
            Some("ByteLevel") => {
                put("bos", false, false);
                put("eos", false, false);
            }
            Some("RobertaProcessing") => ["bos", "eos", "sep"].into_iter().for_each(|kind| put(kind, true, true)),
            Some("TemplateProcessing") => {
                let parts = processor.get("single").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
                if parts.len() < 2 {
                    continue;
                }
                if let Some(first) = special_id(parts.first()) {
                    let known = [name("bos_token"), name("cls_token")];
                    put("bos", known.contains(&Some(first)) || known == [None, None], true);
                }
                if special_id(parts.last()).is_some() {
                    put("eos", true, true);
                }
            }
            _ => {}
        }
    }
}

fn special_id(part: Option<&Json>) -> Option<&str> {
    part?.get("SpecialToken")?.get("id")?.as_str()
}

fn chat_template(folder: &Folder, settings: &Map<String, Json>) -> Result<Option<String>, Error> {
    match settings.get("chat_template") {
        Some(Json::String(template)) => return Ok(Some(template.clone())),
        Some(Json::Array(named)) => {
            let name = |t: &&Json| t.get("name").and_then(Json::as_str) == Some("default");
            let template = named.iter().find(name).or(named.first()).and_then(|t| t.get("template"));
            return Ok(template.and_then(Json::as_str).map(str::to_owned));
        }
        _ => {}
    }
    if let Some(template) = folder.text("chat_template.jinja")? {
        return Ok(Some(template));
    }
    let json = folder.json("chat_template.json")?;
    Ok(json.and_then(|json| json.get("chat_template")?.as_str().map(str::to_owned)))
}
