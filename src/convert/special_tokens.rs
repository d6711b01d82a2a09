//! The special tokens of a checkpoint: which they are, which are added to texts, which end a generation.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use super::Folder;
use super::chat_templates::ChatTemplates;
use super::error::{Error, TokenizerProblem};
use super::vocabulary::{Tokens, Vocabulary};
use crate::arch::TokenKey;
use crate::gguf::{Metadata, Value, keys};
use crate::tokenizer::{SpecialIds, end_tokens};

/// Kinds of special tokens in the order of llama.cpp's converter.
const KINDS: [&str; 7] = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// The special tokens of a checkpoint.
#[derive(Default)]
struct SpecialTokens {
    /// Texts by kind, from `tokenizer_config.json` or the post-processor.
    texts: Vec<(&'static str, String)>,
    ids: Vec<(&'static str, u64)>,
    /// Whether they are added to texts.
    adds: Vec<(&'static str, bool)>,
}

impl SpecialTokens {
    fn text(&self, kind: &str) -> Option<&str> {
        self.texts.iter().find(|(known, _)| *known == kind).map(|(_, text)| text.as_str())
    }

    fn set_text(&mut self, kind: &'static str, text: &str) {
        match self.texts.iter_mut().find(|(known, _)| *known == kind) {
            Some(entry) => text.clone_into(&mut entry.1),
            None => self.texts.push((kind, text.to_owned())),
        }
    }

    fn add(&mut self, kind: &'static str, add: bool) {
        match self.adds.iter_mut().find(|(known, _)| *known == kind) {
            Some(entry) => entry.1 = add,
            None => self.adds.push((kind, add)),
        }
    }

    fn adds(&self, kind: &str) -> Option<bool> {
        self.adds.iter().find(|(known, _)| *known == kind).map(|(_, add)| *add)
    }

    fn id(&self, kind: &str) -> Option<u64> {
        self.ids.iter().find(|(known, _)| *known == kind).map(|(_, id)| *id)
    }

    /// Reads what the post-processor of a `tokenizer.json` adds to texts.
    fn post_processor(&mut self, json: &Json) {
        let Some(processor) = json.get("post_processor").filter(|p| !p.is_null()) else { return };
        let single = std::slice::from_ref(processor);
        let all = processor.get("processors").and_then(Json::as_array).map_or(single, Vec::as_slice);
        for processor in all {
            match processor.get("type").and_then(Json::as_str) {
                Some("ByteLevel") => {
                    for kind in ["bos", "eos"] {
                        if self.adds(kind).is_none() {
                            self.add(kind, false);
                        }
                    }
                }
                Some("RobertaProcessing" | "BertProcessing") => {
                    let roberta = processor["type"] == "RobertaProcessing";
                    for kind in ["bos", "eos", "sep"] {
                        self.add(kind, kind != "sep" || roberta);
                    }
                    for kind in ["cls", "sep"] {
                        if let (None, Some(text)) = (self.text(kind), processor[kind][0].as_str()) {
                            self.set_text(kind, text);
                        }
                    }
                }
                Some("TemplateProcessing") => self.template(processor),
                _ => {}
            }
        }
    }

    fn template(&mut self, processor: &Json) {
        let parts = |of: &str| processor[of].as_array().map_or(&[][..], Vec::as_slice);
        let (single, pair) = (parts("single"), parts("pair"));
        let (mut first, mut last) = (None, None);
        if single.len() > 1 {
            first = special_id(single.first());
            last = special_id(single.last());
        }
        if let Some(first) = first {
            if ![self.text("bos"), self.text("cls")].contains(&Some(first)) {
                for kind in ["bos", "cls"] {
                    if self.text(kind).is_none() {
                        self.set_text(kind, first);
                    }
                }
            }
            self.add("bos", [self.text("bos"), self.text("cls")].contains(&Some(first)));
        }
        if let Some(last) = last {
            if let Some(eos) = self.text("eos").filter(|&eos| eos != last).map(str::to_owned) {
                // If EOS differs from the end of a turn, the latter keeps a key of its own.
                let free = ["eot", "eom"].into_iter().find(|kind| self.text(kind).is_none());
                if let Some(kind) = free {
                    self.set_text(kind, &eos);
                }
            }
            self.set_text("eos", last);
            self.add("eos", true);
        }
        self.template_pair(pair, first, last);
    }

    /// Whether the template for two texts has more between them than the end of the first.
    fn template_pair(&mut self, pair: &[Json], first: Option<&str>, last: Option<&str>) {
        let start = usize::from(first.is_some() && special_id(pair.first()) == first);
        let end = pair.len() - usize::from(last.is_some() && special_id(pair.last()) == last && !pair.is_empty());
        let Some([a, between @ .., b]) = pair.get(start..end.max(start)) else { return };
        if a["Sequence"]["id"] != "A" || b["Sequence"]["id"] != "B" || between.is_empty() {
            return;
        }
        let divides = |part: &Json| {
            let id = special_id(Some(part));
            id.is_some() && (id == self.text("sep") || id == self.text("eos"))
        };
        let add = last.is_none() && divides(&between[0]) || between.len() == 2 && divides(&between[1]);
        if let (true, None, Some(eos)) = (add, self.text("sep"), self.text("eos").map(str::to_owned)) {
            self.set_text("sep", &eos);
        }
        self.add("sep", add);
    }
}

fn special_id(part: Option<&Json>) -> Option<&str> {
    part?.get("SpecialToken")?.get("id")?.as_str()
}

/// Adds the ids of special tokens, whether they are added to texts, and the chat templates. `json` is the `tokenizer.json` of
/// the `vocabulary`, if it is from one. Returns the texts of end tokens for which no key is left.
///
/// # Errors
/// When a file of the folder cannot be read, or the model has no row for a token that is needed.
pub(super) fn write(
    folder: &Folder,
    settings: &Map<String, Json>,
    json: Option<&Json>,
    vocabulary: &Vocabulary,
    changes: &[TokenKey],
    metadata: &mut Metadata,
) -> Result<Vec<String>, Error> {
    let tokens = &vocabulary.tokens;
    let count = tokens.texts.len();
    let mut found = SpecialTokens::default();
    for kind in KINDS {
        let entry = settings.get(&format!("{kind}_token"));
        let text = entry.and_then(|entry| entry.as_str().or_else(|| entry.get("content")?.as_str()));
        found.texts.extend(text.map(|text| (kind, text.to_owned())));
    }
    if let Some(json) = json {
        for (kind, stand_in) in [("bos", "cls"), ("eos", "sep")] {
            if let (None, Some(text)) = (found.text(kind), found.text(stand_in).map(str::to_owned)) {
                found.set_text(kind, &text);
            }
        }
        found.post_processor(json);
        // WordPiece ends texts with the separator token.
        if let ("WordPiece", None, Some(end)) = (
            json["model"]["type"].as_str().unwrap_or_default(),
            found.text("sep"),
            found.text("eos").map(str::to_owned),
        ) {
            found.set_text("sep", &end);
        }
    }
    let added = json.and_then(|json| json.get("added_tokens")).and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let id_of = |text: &str| {
        let token = added.iter().find(|token| token.get("content").and_then(Json::as_str) == Some(text))?;
        token.get("id")?.as_u64()
    };
    for kind in KINDS.into_iter().chain(["eot", "eom"]) {
        let add = settings.get(&format!("add_{kind}_token")).and_then(Json::as_bool);
        if let Some(add) = add.filter(|_| found.adds(kind).is_none()) {
            found.add(kind, add);
        }
        if let Some(id) = found.text(kind).and_then(id_of).filter(|&id| id < count as u64) {
            found.ids.push((kind, id));
        }
    }
    let config = folder.json("config.json")?.unwrap_or_default();
    for kind in KINDS {
        let name = format!("{kind}_token_id");
        let named = config.get(&name).filter(|id| !id.is_null());
        let id = named.or_else(|| config.get("text_config")?.get(&name)).and_then(Json::as_u64);
        if let Some(id) = id.filter(|&id| id < count as u64 && found.id(kind).is_none()) {
            found.ids.push((kind, id));
        }
    }
    for change in changes {
        if let TokenKey::Text(kind, text) = change
            && let Some(id) = id_of(text).or_else(|| vocabulary.added_id(text)).filter(|&id| id < count as u64)
        {
            match found.ids.iter_mut().find(|(known, _)| known == kind) {
                Some(entry) => entry.1 = id,
                None => found.ids.push((kind, id)),
            }
        }
    }
    // The reference writes the class token as BOS.
    for (kind, id) in found.ids.iter().filter(|(kind, _)| *kind != "cls") {
        set_id(kind, u32::try_from(*id).unwrap_or(u32::MAX), metadata);
    }
    for (kind, add) in &found.adds {
        if matches!(*kind, "bos" | "eos" | "sep") {
            metadata.set(format!("tokenizer.ggml.add_{kind}_token"), *add);
        }
    }
    let templates = ChatTemplates::read(folder, settings)?;
    templates.write(metadata);
    for change in changes {
        match change {
            TokenKey::Id(kind, id) if (*id as usize) < count => set_id(kind, *id, metadata),
            TokenKey::SpacePrefix(prefix) => metadata.set(keys::TOKENIZER_ADD_SPACE_PREFIX, *prefix),
            _ => {}
        }
    }
    let generation = folder.json("generation_config.json")?.unwrap_or_default();
    let ends = listed_ends(&generation, &config);
    for (id, text) in &vocabulary.left_out {
        let ends_texts = ["eos", "eot", "eom"].iter().any(|kind| found.text(kind) == Some(text));
        let user = if ends_texts || ends.contains(id) {
            "ends a generation"
        } else if templates.use_text(text) {
            "the chat template uses it"
        } else {
            continue;
        };
        let problem = TokenizerProblem::NoRow { id: *id, token: text.clone(), vocab_size: count, user };
        return Err(Error::Tokenizer { path: folder.path(""), problem });
    }
    Ok(name_ends(&ends, tokens, metadata))
}

/// The end tokens in the checkpoint's generation settings, without duplicates.
fn listed_ends(generation: &Json, config: &Json) -> Vec<u64> {
    let mut seen = HashSet::new();
    let listed = [generation, config].into_iter().flat_map(|settings| match &settings["eos_token_id"] {
        Json::Array(ids) => ids.as_slice(),
        id => std::slice::from_ref(id),
    });
    listed.filter_map(Json::as_u64).filter(|&id| seen.insert(id)).collect()
}

/// Writes `listed` end tokens that would not be recognized otherwise to the keys that are still free. Returns the texts of the
/// remaining ones.
fn name_ends(listed: &[u64], tokens: &Tokens, metadata: &mut Metadata) -> Vec<String> {
    let mut unnamed = Vec::new();
    let ids = |metadata: &Metadata| {
        let id = |key: &str| metadata.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let (eos, eot) = (id(keys::TOKENIZER_EOS_ID), id(keys::TOKENIZER_EOT_ID));
        SpecialIds { eos, eot, eom: id(keys::TOKENIZER_EOM_ID), ..SpecialIds::default() }
    };
    let mut special = ids(metadata);
    // This walks the vocabulary, so it is repeated only for each of the three keys.
    let mut known = end_tokens(&tokens.texts, &tokens.kinds, &special);
    for &id in listed {
        let Some(id) = u32::try_from(id).ok().filter(|&id| (id as usize) < tokens.texts.len()) else { continue };
        if known.binary_search(&id).is_ok() {
            continue;
        }
        let free = match special {
            SpecialIds { eos: None, .. } => "eos",
            SpecialIds { eot: None, .. } => "eot",
            SpecialIds { eom: None, .. } => "eom",
            _ => {
                unnamed.push(tokens.text(id as usize));
                continue;
            }
        };
        set_id(free, id, metadata);
        special = ids(metadata);
        known = end_tokens(&tokens.texts, &tokens.kinds, &special);
    }
    unnamed.sort();
    unnamed.dedup();
    unnamed
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
