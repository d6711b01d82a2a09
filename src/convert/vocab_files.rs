//! Converts `vocab.json` and `merges.txt` of older tokenizers to the form of a `tokenizer.json`.
//!
//! The pre-tokenizer is in no file: it follows from the tokenizer's class. The classes are those of transformers
//! (`models/*/tokenization_*.py`).

use serde_json::{Map, Value as Json, json};

use super::error::TokenizerProblem;
use super::tokenizer_file::{TokenizerFile, VocabList};
use super::{Error, Folder};

/// The pattern of Qwen 2's class.
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A class of tokenizers.
struct Class {
    names: &'static [&'static str],
    /// Model types whose tokenizers have this class if no file names one.
    model_types: &'static [&'static str],
    /// Whether texts are normalized to NFC.
    nfc: bool,
    /// The pattern of words, if it is not GPT-2's.
    pattern: Option<&'static str>,
    /// Special tokens if the settings do not name any.
    named: &'static [(&'static str, &'static str)],
    /// Whether texts begin and end as in RoBERTa.
    roberta: bool,
}

const END_OF_TEXT: &str = "<|endoftext|>";

const CLASSES: &[Class] = &[
    Class {
        names: &["GPT2Tokenizer", "CodeGenTokenizer"],
        model_types: &[
            "gpt2",
            "gpt_neo",
            "gptj",
            "codegen",
            "opt",
            "phi",
            "starcoder2",
            "gpt_bigcode",
            "dbrx",
            "jais2",
        ],
        nfc: false,
        pattern: None,
        named: &[("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("unk_token", END_OF_TEXT)],
        roberta: false,
    },
    Class {
        names: &["GPTNeoXTokenizer"],
        model_types: &["gpt_neox"],
        nfc: true,
        pattern: None,
        named: &[("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("unk_token", END_OF_TEXT)],
        roberta: false,
    },
    Class {
        names: &["Qwen2Tokenizer"],
        model_types: &["qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_next", "qwen3_vl"],
        nfc: true,
        pattern: Some(QWEN2),
        named: &[("eos_token", END_OF_TEXT), ("pad_token", END_OF_TEXT), ("unk_token", END_OF_TEXT)],
        roberta: false,
    },
    Class {
        names: &["RobertaTokenizer", "BartTokenizer", "LongformerTokenizer"],
        model_types: &["roberta", "roberta-prelayernorm", "bart", "longformer"],
        nfc: false,
        pattern: None,
        named: &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("sep_token", "</s>"),
            ("cls_token", "<s>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
            ("mask_token", "<mask>"),
        ],
        roberta: true,
    },
];

/// The tokenizer of both files, if they exist.
///
/// # Errors
/// When one cannot be read, or the tokenizer's class is not known.
pub(super) fn read(folder: &Folder, settings: &Map<String, Json>) -> Result<Option<TokenizerFile>, Error> {
    let Some(vocab) = folder.parse::<VocabList>("vocab.json")? else { return Ok(None) };
    let Some(merges) = folder.text("merges.txt")? else { return Ok(None) };
    let fault = |name: &str, problem| Error::Tokenizer { path: folder.path(name), problem };
    let merges = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
    let merges: Vec<Option<String>> = merges.map(|line| Some(line.trim_end().to_owned())).collect();
    if merges.iter().flatten().any(|line| line.split(' ').count() != 2) {
        let problem = TokenizerProblem::Structure { path: "merges.txt", expected: "two texts a line" };
        return Err(fault("", problem));
    }
    let class = settings.get("tokenizer_class").and_then(Json::as_str).map(|name| name.trim_end_matches("Fast"));
    let config = folder.json("config.json")?.unwrap_or_default();
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let found = CLASSES.iter().find(|known| match class {
        Some(class) => known.names.contains(&class),
        None => known.model_types.contains(&model_type),
    });
    let Some(found) = found else {
        let class = class.map_or_else(|| format!("model_type {model_type}"), str::to_owned);
        return Err(fault("", TokenizerProblem::UnknownClass { class, known: known_classes() }));
    };
    Ok(Some(TokenizerFile { json: found.json(settings, &vocab), vocab, merges: Some(merges) }))
}

fn known_classes() -> String {
    CLASSES.iter().flat_map(|class| class.names).copied().collect::<Vec<_>>().join(", ")
}

impl Class {
    fn json(&self, settings: &Map<String, Json>, vocab: &VocabList) -> Json {
        let text = |key: &str| {
            let named = settings.get(key).map(|token| token.as_str().or_else(|| token["content"].as_str()));
            let own = self.named.iter().find(|(name, _)| *name == key).map(|(_, text)| *text);
            named.unwrap_or(own)
        };
        let set = |key: &str| settings.get(key).and_then(Json::as_bool).unwrap_or(false);
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": set("add_prefix_space"), "use_regex": self.pattern.is_none(),
        });
        let pre_tokenizer = match self.pattern {
            None => byte_level,
            Some(pattern) => {
                let split = json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated" });
                json!({ "type": "Sequence", "pretokenizers": [split, byte_level] })
            }
        };
        let post_processor = if self.roberta {
            let part = |key| text(key).map(|text| json!([text, vocab.id(text)]));
            json!({ "type": "RobertaProcessing", "cls": part("cls_token"), "sep": part("sep_token") })
        } else {
            Json::Null
        };
        // Named tokens are special even if no list has them.
        let mut added: Vec<(u64, &str)> = Vec::new();
        for text in self.named.iter().filter_map(|(key, _)| text(key)) {
            if let Some(id) = vocab.id(text).filter(|id| !added.iter().any(|(known, _)| known == id)) {
                added.push((id, text));
            }
        }
        let added: Vec<Json> = added
            .into_iter()
            .map(|(id, text)| json!({ "id": id, "content": text, "special": true, "normalized": false }))
            .collect();
        json!({
            "added_tokens": added, "normalizer": if self.nfc { json!({ "type": "NFC" }) } else { Json::Null },
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": { "type": "ByteLevel" },
            "model": { "type": "BPE" },
        })
    }
}
