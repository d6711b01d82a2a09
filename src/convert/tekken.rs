//! Converts Mistral's `tekken.json` (byte-pair encoding by ranks, as in tiktoken) to the form of a `tokenizer.json`.
//!
//! The layout is that of mistral-common (`tokens/tokenizers/tekken.py`); keys and their order are those of llama.cpp's
//! converter (`conversion/base.py`, `_set_vocab_mistral`).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::base64::decode;
use super::error::TokenizerProblem;
use super::tokenizer_file::{TokenizerFile, VocabList};
use crate::gguf::{Array, Metadata, Value, keys};
use crate::tokenizer::{PieceHasher, byte_character};

/// Maximum bytes of a token: all ways to split it into two tokens are looked up.
const LONGEST: usize = 1024;

/// Special tokens of files without a list (before version 11).
const DEFAULTS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// A parsed `tekken.json`.
#[derive(Deserialize)]
pub(super) struct Tekken {
    config: Config,
    vocab: Vec<Piece>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    pattern: String,
    /// Number of tokens of the model, special ones included; the list may be longer.
    default_vocab_size: Option<usize>,
    /// Number of special tokens: the listed ones and unused ones.
    default_num_special_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Piece {
    /// The bytes of the token in base64.
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    rank: usize,
    token_str: String,
}

type Ranks<'a> = HashMap<&'a [u8], usize, BuildHasherDefault<PieceHasher>>;

impl Tekken {
    /// The tokenizer in the form of a `tokenizer.json`.
    ///
    /// # Errors
    /// When its lists are inconsistent.
    pub(super) fn tokenizer(&self) -> Result<TokenizerFile, TokenizerProblem> {
        let structure = |path, expected| TokenizerProblem::Structure { path, expected };
        let specials = self.specials()?;
        let size = self.config.default_vocab_size.unwrap_or(usize::MAX);
        let pieces = size.checked_sub(specials.len());
        let pieces = pieces.ok_or(structure("config.default_vocab_size", "more than there are special tokens"))?;
        let mut bytes = Vec::with_capacity(self.vocab.len().min(pieces));
        for piece in self.vocab.iter().take(pieces) {
            let piece = decode(&piece.token_bytes).filter(|bytes| (1..=LONGEST).contains(&bytes.len()));
            bytes.push(piece.ok_or(structure("vocab", "base64 of 1 to 1,024 bytes each"))?);
        }
        let ranks: Ranks = bytes.iter().enumerate().map(|(rank, bytes)| (bytes.as_slice(), rank)).collect();
        if (0..=255u8).any(|byte| !ranks.contains_key(&[byte][..])) {
            return Err(structure("vocab", "a token for each byte"));
        }
        let text = |bytes: &[u8]| bytes.iter().map(|&byte| byte_character(byte)).collect::<String>();
        let mut merges = Vec::new();
        for token in &bytes {
            let halves = (1..token.len()).map(|at| token.split_at(at));
            let mut ways: Vec<(usize, usize)> =
                halves.filter_map(|(a, b)| Some((*ranks.get(a)?, *ranks.get(b)?))).collect();
            ways.sort_unstable();
            merges.extend(ways.into_iter().map(|(a, b)| Some(format!("{} {}", text(&bytes[a]), text(&bytes[b])))));
        }
        let first = specials.len() as u64;
        let vocab = (first..).zip(&bytes).map(|(id, bytes)| (text(bytes), id)).collect();
        let added: Vec<Json> = specials
            .iter()
            .enumerate()
            .map(|(id, text)| json!({ "id": id, "content": text, "special": true, "normalized": false }))
            .collect();
        let split = json!({ "type": "Split", "pattern": { "Regex": self.config.pattern }, "behavior": "Isolated" });
        let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
        let json = json!({
            "added_tokens": added, "normalizer": null, "decoder": { "type": "ByteLevel" },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [split, byte_level] },
            "model": { "type": "BPE", "ignore_merges": true },
        });
        Ok(TokenizerFile { json, vocab: VocabList::Ids(vocab), merges: Some(merges) })
    }

    /// The special tokens in the order of their ids.
    fn specials(&self) -> Result<Vec<String>, TokenizerProblem> {
        let fault = |expected| TokenizerProblem::Structure { path: "special_tokens", expected };
        let mut texts = match &self.special_tokens {
            None => DEFAULTS.map(str::to_owned).to_vec(),
            Some(listed) => {
                let mut listed: Vec<&Special> = listed.iter().collect();
                listed.sort_by_key(|special| special.rank);
                if listed.iter().enumerate().any(|(rank, special)| special.rank != rank) {
                    return Err(fault("ranks from 0 on, without a gap"));
                }
                listed.into_iter().map(|special| special.token_str.clone()).collect()
            }
        };
        let count = self.config.default_num_special_tokens.unwrap_or(texts.len());
        if count < texts.len() || count > texts.len() + self.vocab.len() {
            return Err(fault("no more than config.default_num_special_tokens says, and not far fewer"));
        }
        texts.extend((texts.len()..count).map(|id| format!("<SPECIAL_{id}>")));
        Ok(texts)
    }
}

/// The settings of a `tokenizer_config.json` for the tokenizer in `file`; those of the folder are ignored.
pub(super) fn settings(file: &TokenizerFile, settings: &mut Map<String, Json>) {
    let has = |text: &str| file.json["added_tokens"].as_array().is_some_and(|t| t.iter().any(|t| t["content"] == text));
    let padding = if has("<pad>") { "<pad>" } else { "</s>" };
    let named = [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"), ("pad_token", padding)];
    settings.retain(|key, _| key == "chat_template");
    settings.extend(named.map(|(key, text)| (key.to_owned(), text.into())));
    settings.extend([("add_bos_token", true), ("add_eos_token", false)].map(|(key, add)| (key.to_owned(), add.into())));
}

/// Sorts the keys of a tokenizer in the order of the reference, and adds a score of zero for each token.
pub(super) fn in_order(metadata: &mut Metadata) {
    let tokens = metadata.get(keys::TOKENIZER_TOKENS).and_then(Value::as_array).map_or(0, Array::len);
    let mut rest = std::mem::take(metadata);
    rest.set(keys::TOKENIZER_SCORES, Value::Array(Array::from(&vec![0.0f32; tokens][..])));
    let first = [
        keys::TOKENIZER_MODEL,
        keys::TOKENIZER_PRE,
        keys::TOKENIZER_MERGES,
        keys::TOKENIZER_BOS_ID,
        keys::TOKENIZER_EOS_ID,
        keys::TOKENIZER_UNKNOWN_ID,
        keys::TOKENIZER_PADDING_ID,
        keys::TOKENIZER_TOKENS,
        keys::TOKENIZER_SCORES,
        keys::TOKENIZER_TOKEN_TYPE,
    ];
    for key in first {
        if let Some(value) = rest.get(key) {
            metadata.set(key, value.clone());
        }
    }
    for (key, value) in rest.iter().filter(|(key, _)| !first.contains(key)) {
        metadata.set(key, value.clone());
    }
}
