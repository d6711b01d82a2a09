//! Tokens that were added to a vocabulary: from the four files in which transformers looks for them.
//!
//! `tokenizer.json` lists them (`added_tokens`). `tokenizer_config.json` may list them again (`added_tokens_decoder`),
//! and then counts. Where it does not, `added_tokens.json` and `special_tokens_map.json` add those that are new. Tokens
//! that a setting names (`eos_token`) are added tokens too.

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
    /// White space before it belongs to it.
    lstrip: bool,
    /// White space after it belongs to it.
    rstrip: bool,
    /// It is not found within words.
    single_word: bool,
    /// It is looked for after a text is normalized.
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

    /// Reads one that is written as an object.
    fn read(id: u64, json: &Json) -> Option<Self> {
        Some(Self::new(id, json["content"].as_str()?, json["special"].as_bool().unwrap_or(false), json))
    }

    /// As `tokenizer.json` writes it.
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

/// The tokens that `added_tokens_decoder` lists, if it is there.
pub(super) fn of_settings(settings: &Map<String, Json>) -> Option<Vec<AddedToken>> {
    let list = settings.get("added_tokens_decoder")?.as_object()?;
    Some(list.iter().filter_map(|(id, token)| AddedToken::read(id.parse().ok()?, token)).collect())
}

/// All tokens that were added to the vocabulary in which `id_of` finds a text. `json` is the folder's `tokenizer.json`.
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
    // What is named and in no list is special where the vocabulary has it; elsewhere the model has no row for it.
    for (text, token) in named(&special) {
        if let Some(id) = id_of(text).filter(|_| !list.by_text.contains_key(text)) {
            list.put(AddedToken::new(id, text, true, token));
        }
    }
    Ok(list.tokens)
}

/// Tokens in the order in which they were found; of two with one text the later counts.
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

/// Texts of the tokens that settings name, each with what else is said of it.
fn named(settings: &Map<String, Json>) -> impl Iterator<Item = (&str, &Json)> {
    let single = NAMED.iter().filter_map(|key| settings.get(*key));
    let listed = LISTED.iter().filter_map(|key| settings.get(*key)).flat_map(|list| match list {
        Json::Array(tokens) => tokens.iter().collect(),
        Json::Object(tokens) => tokens.values().collect(),
        _ => Vec::new(),
    });
    single.chain(listed).filter_map(|token| Some((token.as_str().or_else(|| token["content"].as_str())?, token)))
}

/// Puts `tokens` in place of the list in a `tokenizer.json`.
pub(super) fn put(tokens: &[AddedToken], json: &mut Json) {
    json["added_tokens"] = tokens.iter().map(AddedToken::json).collect();
}

/// How the `added` tokens are found in a text, of those that are among `count`. `normalizes` as in a vocabulary.
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

/// Those of the `added` tokens that a model with `count` rows has none for: ids and texts.
pub(super) fn past(added: &[AddedToken], count: usize) -> impl Iterator<Item = (u64, String)> {
    added.iter().filter(move |token| token.id >= count as u64).map(|token| (token.id, token.text.clone()))
}
