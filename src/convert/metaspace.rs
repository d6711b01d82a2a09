//! The SentencePiece-like parts of a `tokenizer.json`'s normalizer and pre-tokenizer: spaces are written as `▁`, one is put
//! before a text, runs of spaces are merged, characters are mapped.

use serde_json::Value as Json;

use super::base64;
use super::error::TokenizerProblem;

/// Operations on a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metaspace {
    /// Whether a space is put before it.
    pub(super) prefix: bool,
    /// Whether spaces are written as `▁`.
    pub(super) escaped: bool,
    /// Whether runs of spaces are merged, and those at the ends removed.
    pub(super) merge_spaces: bool,
    /// Whether it is split before every space.
    pub(super) split: bool,
    /// Sentencepiece's map of characters.
    pub(super) character_map: Vec<u8>,
    /// The first part that cannot be expressed.
    pub(super) foreign: Option<Foreign>,
}

/// A part that cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// A part of the normalizer.
    Normalizer(String),
    /// A part of the pre-tokenizer.
    PreTokenizer(String),
}

impl Metaspace {
    /// Reads the normalizer and the pre-tokenizer of `json`.
    pub(super) fn read(json: &Json) -> Self {
        let mut found = Self::default();
        let normalizers = parts(&json["normalizer"], "normalizers");
        for part in &normalizers {
            if found.normalizer(part).is_none() {
                found.foreign.get_or_insert_with(|| Foreign::Normalizer(part.to_string()));
            }
        }
        // Spaces at the end are removed only together with merging.
        if let (false, Some(part)) = (found.merge_spaces, normalizers.iter().find(|part| part["type"] == "Strip")) {
            found.foreign.get_or_insert_with(|| Foreign::Normalizer(part.to_string()));
        }
        for part in parts(&json["pre_tokenizer"], "pretokenizers") {
            if found.pre_tokenizer(part).is_none() {
                found.foreign.get_or_insert_with(|| Foreign::PreTokenizer(part.to_string()));
            }
        }
        found
    }

    /// Returns an error if a part cannot be expressed in a GGUF file.
    pub(super) fn expressible(&self) -> Result<(), TokenizerProblem> {
        match self.foreign.clone() {
            Some(Foreign::Normalizer(part)) => Err(TokenizerProblem::Normalizer { part, anyway: "default" }),
            Some(Foreign::PreTokenizer(part)) => Err(TokenizerProblem::UnreadablePre { part, anyway: "default" }),
            None => Ok(()),
        }
    }

    fn normalizer(&mut self, part: &Json) -> Option<()> {
        let (pattern, content) = (&part["pattern"], part["content"].as_str());
        match part["type"].as_str()? {
            // GGUF files cannot express Unicode normal forms; texts are mostly normalized already.
            "NFC" | "NFKC" => {}
            "Prepend" if part["prepend"] == "▁" => self.prefix = true,
            "Replace" if pattern["String"] == " " && content == Some("▁") => self.escaped = true,
            // As written by the converters of T5 and mBART.
            "Replace" if pattern["Regex"] == " {2,}" && matches!(content, Some(" " | "▁")) => {
                self.merge_spaces = true
            }
            "Strip" if part["strip_right"] == true => {}
            "Precompiled" => self.character_map = base64::decode(part["precompiled_charsmap"].as_str()?)?,
            _ => return None,
        }
        Some(())
    }

    fn pre_tokenizer(&mut self, part: &Json) -> Option<()> {
        match part["type"].as_str()? {
            "Metaspace" if part["replacement"] == "▁" => {
                self.escaped = true;
                let prefix = part["add_prefix_space"].as_bool().unwrap_or(true);
                self.prefix |= prefix && part["prepend_scheme"] != "never";
                self.split |= part["split"].as_bool().unwrap_or(true);
            }
            // Spaces have been replaced by `▁` before, so splitting at spaces does nothing.
            "Split" if self.escaped && part["pattern"]["String"] == " " => {}
            // The character map turns all white space into spaces.
            "WhitespaceSplit" if !self.character_map.is_empty() => self.merge_spaces = true,
            _ => return None,
        }
        Some(())
    }
}

/// The parts of a sequence in `list`, however deep, or the part itself.
pub(super) fn parts<'a>(part: &'a Json, list: &str) -> Vec<&'a Json> {
    match part[list].as_array() {
        Some(inner) => inner.iter().flat_map(|part| parts(part, list)).collect(),
        None if part.is_null() => Vec::new(),
        None => vec![part],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn published_spellings_are_read() {
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        let prepend = json!({ "type": "Prepend", "prepend": "▁" });
        let llama2 = json!({ "normalizer": { "type": "Sequence", "normalizers": [prepend, replace] } });
        let expected = Metaspace { prefix: true, escaped: true, ..Metaspace::default() };
        assert_eq!(Metaspace::read(&llama2), expected);
        let metaspace =
            |scheme| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
        assert_eq!(Metaspace::read(&json!({ "normalizer": null, "pre_tokenizer": metaspace("first") })), expected);
        let gemma = Metaspace::read(&json!({ "normalizer": replace, "pre_tokenizer":
            { "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false } }));
        assert_eq!(gemma, Metaspace { prefix: false, ..expected.clone() });
        assert_eq!(Metaspace::read(&json!({ "pre_tokenizer": metaspace("never") })), gemma);
        let xlm_roberta = json!({
            "normalizer": { "type": "Precompiled", "precompiled_charsmap": "AAEC/w==" },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "WhitespaceSplit" },
                { "type": "Metaspace", "replacement": "▁", "add_prefix_space": true }
            ] },
        });
        let expected = Metaspace { merge_spaces: true, split: true, character_map: vec![0, 1, 2, 255], ..expected };
        assert_eq!(Metaspace::read(&xlm_roberta), expected);
        assert_eq!(expected.expressible().map_err(|e| e.to_string()), Ok(()));
    }

    #[test]
    fn what_cannot_be_expressed_is_named() {
        let read = |json: &Json| Metaspace::read(json).expressible().expect_err("foreign").to_string();
        let lower = read(&json!({ "normalizer": { "type": "Lowercase" } }));
        assert!(lower.contains(r#"normalizer: {"type":"Lowercase"}"#) && lower.contains("--pre default"), "{lower}");
        let digits = read(&json!({ "pre_tokenizer": { "type": "Digits" } }));
        assert!(digits.contains(r#"pre_tokenizer: {"type":"Digits"}"#) && digits.contains("--pre default"), "{digits}");
    }
}
