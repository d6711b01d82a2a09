//! Tokens that were added to a vocabulary, from the four files in which transformers looks for them.
//!
//! `tokenizer.json` lists them (`added_tokens`). If `tokenizer_config.json` lists them too (`added_tokens_decoder`), that list
//! is used; otherwise `added_tokens.json` and `special_tokens_map.json` add further ones. Tokens that a setting names
//! (`eos_token`) are added tokens as well.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::{Error, Folder};
use crate::tokenizer::{AddedTokenFlags, TokenKind};

/// Settings that name special tokens.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Settings that list further special tokens.
const LISTED: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// A token that was added to a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub(super) id: u64,
    pub(super) text: String,
    pub(super) special: bool,
    /// Whether it includes white space before it.
    lstrip: bool,
    /// Whether it includes white space after it.
    rstrip: bool,
    /// Whether it is not matched within words.
    single_word: bool,
    /// Whether it is matched after the text is normalized.
    normalized: bool,
}

impl AddedToken {
    fn new(id: u64, text: &str, special: bool, json: &Json) -> Self {
        let flag = |name: &str, default: bool| json[name].as_bool().unwrap_or(default);
        Self {
            id,
            text: text.to_owned(),
            special,
            lstrip: flag("lstrip", false),
            rstrip: flag("rstrip", false),
            single_word: flag("single_word", false),
            normalized: flag("normalized", !special),
        }
    }

    /// Reads a token that is written as an object.
    fn read(id: u64, json: &Json) -> Option<Self> {
        Some(Self::new(id, json["content"].as_str()?, json["special"].as_bool().unwrap_or(false), json))
    }

    /// Its form in `tokenizer.json`.
    fn json(&self) -> Json {
        json!({
            "id": self.id, "content": self.text, "single_word": self.single_word, "lstrip": self.lstrip,
            "rstrip": self.rstrip, "normalized": self.normalized, "special": self.special,
        })
    }

    /// Text and kind in a file.
    pub(super) fn entry(&self) -> (Vec<u8>, TokenKind) {
        let text = self.text.as_str();
        let bracketed = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
        let looks_special = matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
            || bracketed("<|", "|>")
            || bracketed("<｜", "｜>")
            || bracketed("<unused", ">");
        if self.special || looks_special {
            (text.into(), TokenKind::Control)
        } else {
            (text.replace('▁', " ").into_bytes(), TokenKind::UserDefined)
        }
    }
}

/// The tokens of the list in a `tokenizer.json`.
pub(super) fn of_json(json: &Json) -> impl Iterator<Item = AddedToken> {
    let list = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(|token| AddedToken::read(token["id"].as_u64()?, token))
}

/// The tokens of `added_tokens_decoder`, if it exists.
pub(super) fn of_settings(settings: &Map<String, Json>) -> Option<Vec<AddedToken>> {
    let list = settings.get("added_tokens_decoder")?.as_object()?;
    Some(list.iter().filter_map(|(id, token)| AddedToken::read(id.parse().ok()?, token)).collect())
}

/// All tokens that were added to a vocabulary; `id_of` looks texts up in it. `json` is the folder's `tokenizer.json`.
///
/// # Errors
/// When a file of the folder cannot be read.
pub(super) fn read(
    folder: &Folder,
    settings: &Map<String, Json>,
    json: Option<&Json>,
    id_of: impl Fn(&str) -> Option<u64>,
) -> Result<Vec<AddedToken>, Error> {
    let mut list = List::default();
    json.into_iter().flat_map(of_json).for_each(|token| list.put(token));
    let mut special = settings.clone();
    if let Some(tokens) = of_settings(settings) {
        tokens.into_iter().for_each(|token| list.put(token));
    } else {
        let map = folder.json("special_tokens_map.json")?;
        special.extend(map.as_ref().and_then(Json::as_object).cloned().unwrap_or_default());
        let named: HashSet<&str> = named(&special).map(|(text, _)| text).collect();
        let added = folder.json("added_tokens.json")?;
        for (text, id) in added.as_ref().and_then(Json::as_object).into_iter().flatten() {
            if let Some(id) = id.as_u64().filter(|_| !list.by_text.contains_key(text)) {
                list.put(AddedToken::new(id, text, named.contains(text.as_str()), &Json::Null));
            }
        }
    }
    // A named token that is in no list is special if the vocabulary has it; otherwise the model has no row for it.
    for (text, token) in named(&special) {
        if let Some(id) = id_of(text).filter(|_| !list.by_text.contains_key(text)) {
            list.put(AddedToken::new(id, text, true, token));
        }
    }
    Ok(list.tokens)
}

/// Tokens in the order in which they were found; of two tokens with the same text, the later replaces the earlier.
#[derive(Default)]
struct List {
    tokens: Vec<AddedToken>,
    by_text: HashMap<String, usize>,
}

impl List {
    fn put(&mut self, token: AddedToken) {
        match self.by_text.get(&token.text) {
            Some(&at) => self.tokens[at] = AddedToken { id: self.tokens[at].id, ..token },
            None => {
                self.by_text.insert(token.text.clone(), self.tokens.len());
                self.tokens.push(token);
            }
        }
    }
}

/// Texts of the tokens that settings name, each with its entry.
fn named(settings: &Map<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    let single = NAMED.iter().filter_map(|key| settings.get(*key));
    let listed = LISTED.iter().filter_map(|key| settings.get(*key)).flat_map(|list| match list {
        Json::Array(tokens) => tokens.iter().collect(),
        Json::Object(tokens) => tokens.values().collect(),
        _ => Vec::new(),
    });
    single.chain(listed).filter_map(|token| Some((token.as_str().or_else(|| token["content"].as_str())?, token)))
}

/// Replaces the list in a `tokenizer.json` by `tokens`.
pub(super) fn put(tokens: &[AddedToken], json: &mut Json) {
    json["added_tokens"] = tokens.iter().map(AddedToken::json).collect();
}

/// How the `added` tokens with ids below `count` are matched in a text. `normalizes` as in a vocabulary.
pub(super) fn flags(added: &[AddedToken], count: usize, normalizes: bool) -> AddedTokenFlags {
    let ids = |flag: fn(&AddedToken) -> bool| -> Vec<u32> {
        let found = added.iter().filter(|token| token.id < count as u64 && flag(token));
        let mut ids: Vec<u32> = found.filter_map(|token| u32::try_from(token.id).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    AddedTokenFlags {
        lstrip: ids(|token| token.lstrip),
        rstrip: ids(|token| token.rstrip),
        single_word: ids(|token| token.single_word),
        normalized: if normalizes { ids(|token| token.normalized) } else { Vec::new() },
    }
}

/// The `added` tokens for which a model with `count` rows has no row: ids and texts.
pub(super) fn past(added: &[AddedToken], count: usize) -> impl Iterator<Item = (u64, String)> {
    added.iter().filter(move |token| token.id >= count as u64).map(|token| (token.id, token.text.clone()))
}
