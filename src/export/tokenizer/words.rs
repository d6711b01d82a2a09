//! The tokenizers of encoders in the form of the library: Unigram of SentencePiece, and WordPiece.

use serde_json::{Map, Value as Json, json};

use super::{Parts, TokenizerProblem, ids, kind};
use crate::convert::base64;
use crate::tokenizer::{TokenKind, Vocab};

/// The mark of pieces that go on with a word.
const INNER: &str = "##";

/// Unigram, with the normalizers that XLM-RoBERTa has.
///
/// # Errors
/// When there is no unknown token.
pub(super) fn unigram(vocab: &Vocab, texts: &[String]) -> Result<Parts, TokenizerProblem> {
    let unknown = vocab.special.unknown.ok_or(TokenizerProblem::Model { name: "Unigram without an unknown token" })?;
    let score = |id: usize| vocab.scores.get(id).copied().unwrap_or(0.0);
    let pieces: Vec<Json> = texts.iter().enumerate().map(|(id, text)| json!([text, f64::from(score(id))])).collect();
    let mut normalizers = Vec::new();
    if !vocab.character_map.is_empty() {
        normalizers
            .push(json!({ "type": "Precompiled", "precompiled_charsmap": base64::encode(&vocab.character_map) }));
    }
    if vocab.remove_extra_spaces {
        normalizers.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
    }
    let scheme = if vocab.add_space_prefix { "always" } else { "never" };
    let spaces = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true });
    let mut cuts = vec![spaces.clone()];
    if vocab.remove_extra_spaces {
        // The character map makes spaces of all white space, and this removes those at the ends.
        cuts.insert(0, json!({ "type": "WhitespaceSplit" }));
    }
    let normalizer =
        if normalizers.is_empty() { Json::Null } else { json!({ "type": "Sequence", "normalizers": normalizers }) };
    let fallback = vocab.kinds.contains(&TokenKind::Byte);
    Ok(Parts {
        normalizer,
        pre_tokenizer: json!({ "type": "Sequence", "pretokenizers": cuts }),
        decoder: spaces,
        model: json!({ "type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": fallback }),
    })
}

/// `WordPiece`. Files mark the beginnings of words, the library marks what goes on with one.
pub(super) fn word_piece(vocab: &Vocab, texts: &[String]) -> Parts {
    let plain = |id: usize| matches!(kind(vocab, id), TokenKind::Control | TokenKind::UserDefined);
    let text = |(id, text): (usize, &String)| match text.strip_prefix('▁') {
        _ if plain(id) => text.clone(),
        Some(word) => word.to_owned(),
        None => format!("{INNER}{text}"),
    };
    let texts: Vec<String> = texts.iter().enumerate().map(text).collect();
    let unknown = vocab.special.unknown.and_then(|id| texts.get(id as usize));
    let pieces: Map<String, Json> = ids(vocab, &texts);
    Parts {
        normalizer: json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": vocab.strip_accents, "lowercase": vocab.lowercase,
        }),
        pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
        decoder: json!({ "type": "WordPiece", "prefix": INNER, "cleanup": true }),
        model: json!({
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": INNER, "max_input_chars_per_word": 100,
            "vocab": pieces,
        }),
    }
}
