//! Converts `qwen.tiktoken` (byte-pair encoding by ranks) of Qwen 1 to the form of a `tokenizer.json`.
//!
//! Special tokens and the pattern of words are in no file, but in the code that comes with these checkpoints
//! (`tokenization_qwen.py` of github.com/QwenLM/Qwen).

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::base64::decode;
use super::error::TokenizerProblem;
use super::tokenizer_file::{TokenizerFile, VocabList};
use super::vocab_files::QWEN2;
use super::{Error, Folder};
use crate::tokenizer::byte_character;

const FILE: &str = "qwen.tiktoken";
const END_OF_TEXT: &str = "<|endoftext|>";
/// Number of special tokens without a use.
const EXTRA: usize = 205;
/// Maximum bytes of a token: it is put together of its bytes to find its halves.
const LONGEST: usize = 1024;

/// The tokenizer of `folder`, if it has the file, and its special tokens in `settings` that name none.
///
/// # Errors
/// When the file cannot be read, or is not valid.
pub(super) fn read(folder: &Folder, settings: &mut Map<String, Json>) -> Result<Option<TokenizerFile>, Error> {
    let Some(text) = folder.text(FILE)? else { return Ok(None) };
    let file = tokenizer(&text).map_err(|problem| Error::Tokenizer { path: folder.path(FILE), problem })?;
    for kind in ["bos_token", "eos_token", "unk_token"] {
        settings.entry(kind).or_insert_with(|| END_OF_TEXT.into());
    }
    Ok(Some(file))
}

fn tokenizer(text: &str) -> Result<TokenizerFile, TokenizerProblem> {
    let fault = TokenizerProblem::Structure { path: "ranks", expected: "base64 and a rank from 0 on in each line" };
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let token = line.split_once(' ').filter(|(_, rank)| rank.parse::<usize>().ok() == Some(tokens.len()));
        let token = token.and_then(|(token, _)| decode(token)).filter(|token| (1..=LONGEST).contains(&token.len()));
        let Some(token) = token else { return Err(fault) };
        tokens.push(token);
    }
    let ranks: HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank)).collect();
    let written = |bytes: &[u8]| bytes.iter().map(|&byte| byte_character(byte)).collect::<String>();
    let mut merges = Vec::new();
    for (rank, token) in tokens.iter().enumerate().filter(|(_, token)| token.len() > 1) {
        let Some(at) = half(token, rank, &ranks) else {
            return Err(TokenizerProblem::Structure {
                path: "ranks",
                expected: "two tokens before each that is longer",
            });
        };
        merges.push(Some(format!("{} {}", written(&token[..at]), written(&token[at..]))));
    }
    let names = [END_OF_TEXT, "<|im_start|>", "<|im_end|>"].map(str::to_owned).into_iter();
    let names = names.chain((0..EXTRA).map(|i| format!("<|extra_{i}|>")));
    let added: Vec<Json> = (tokens.len()..)
        .zip(names)
        .map(|(id, text)| json!({ "id": id, "content": text, "special": true, "normalized": false }))
        .collect();
    let vocab = (0..).zip(&tokens).map(|(id, token)| (written(token), id)).collect();
    let split = json!({ "type": "Split", "pattern": { "Regex": QWEN2 }, "behavior": "Isolated" });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
    let json = json!({
        "added_tokens": added, "normalizer": { "type": "NFC" }, "decoder": { "type": "ByteLevel" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [split, byte_level] }, "model": { "type": "BPE" },
    });
    Ok(TokenizerFile { json, vocab: VocabList::Ids(vocab), merges: Some(merges) })
}

/// Where the two halves of a token meet that tokens of lower ranks make of its bytes.
fn half(token: &[u8], rank: usize, ranks: &HashMap<&[u8], usize>) -> Option<usize> {
    // The ends of the parts.
    let mut ends: Vec<usize> = (1..=token.len()).collect();
    while ends.len() > 2 {
        let start = |i: usize| if i == 0 { 0 } else { ends[i - 1] };
        let joined = (0..ends.len() - 1).filter_map(|i| Some((*ranks.get(&token[start(i)..ends[i + 1]])?, i)));
        let (_, i) = joined.filter(|(found, _)| *found < rank).min()?;
        ends.remove(i);
    }
    (ends.len() == 2).then(|| ends[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_are_those_that_make_each_token() {
        // a, b, c, ab, bc, abc: `ab` comes first.
        let file = tokenizer("YQ== 0\nYg== 1\nYw== 2\nYWI= 3\nYmM= 4\nYWJj 5\n").expect("valid");
        let merges: Vec<String> = file.merges.expect("merges").into_iter().flatten().collect();
        assert_eq!(merges, ["a b", "b c", "ab c"]);
        assert_eq!(file.json["added_tokens"][207]["content"], "<|extra_204|>");
        for wrong in ["YQ== 1\n", "YQ==\n", "?? 0\n", "YQ== 0\nYWJj 1\n"] {
            assert!(tokenizer(wrong).is_err(), "{wrong}");
        }
    }
}
