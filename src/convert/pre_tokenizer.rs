//! Recognizes the known pre-tokenizer that a `tokenizer.json` describes, by the behaviour of its parts.

use serde_json::Value as Json;

use super::error::TokenizerProblem;
use super::metaspace::parts;
use crate::tokenizer::{Recognized, pre_tokenizer_patterns, recognize_pre_tokenizer};

/// The pattern of byte-level pre-tokenizers with `use_regex`.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const DIGIT: &str = r"\p{N}";
const DIGITS: &str = r"\p{N}+";
/// Punctuation in the tokenizers library: Unicode's, and ASCII's symbols.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]";

/// A placeholder for a pre-tokenizer's name in messages.
const NAME: &str = "NAME";

/// The name of the pre-tokenizer that `json` describes, for a vocabulary of these `tokens`: `own`, where it splits as the one
/// of this name.
pub(super) fn recognize(
    json: &Json,
    tokens: &[&str],
    own: Option<&'static str>,
) -> Result<&'static str, TokenizerProblem> {
    for part in parts(&json["normalizer"], "normalizers") {
        // Unicode normal forms are ignored, since GGUF files cannot express them.
        if !matches!(part["type"].as_str(), Some("NFC" | "NFD" | "NFKC" | "NFKD")) {
            return Err(TokenizerProblem::Normalizer { part: part.to_string(), anyway: NAME });
        }
    }
    let mut patterns = Vec::new();
    for part in parts(&json["pre_tokenizer"], "pretokenizers") {
        patterns.extend(pattern(part)?);
    }
    match recognize_pre_tokenizer(&patterns, tokens) {
        Recognized::Known(name) => Ok(own.filter(|own| splits_alike(own, name, tokens)).unwrap_or(name)),
        Recognized::Nearest { name, text, found, known } => {
            Err(TokenizerProblem::UnknownPre { nearest: name, text, found, known })
        }
        Recognized::Unreadable { pattern } => Err(TokenizerProblem::UnreadablePattern { pattern }),
    }
}

/// Whether the pre-tokenizers of these names are recognized as one, for a vocabulary of these `tokens`.
fn splits_alike(own: &str, name: &str, tokens: &[&str]) -> bool {
    let patterns: Vec<String> =
        pre_tokenizer_patterns(own).unwrap_or_default().iter().map(|&pattern| pattern.to_owned()).collect();
    matches!(recognize_pre_tokenizer(&patterns, tokens), Recognized::Known(found) if found == name)
}

fn unreadable(part: &Json) -> TokenizerProblem {
    TokenizerProblem::UnreadablePre { part: part.to_string(), anyway: NAME }
}

/// The pattern by which a part of a pre-tokenizer splits.
fn pattern(pre: &Json) -> Result<Option<String>, TokenizerProblem> {
    Ok(Some(match pre["type"].as_str() {
        Some("Split") => {
            // Keeping the matches and removing the text between them gives the same words, if the pattern leaves nothing
            // between.
            let kept = match pre["behavior"].as_str() {
                None | Some("Isolated") => true,
                Some("Removed") => pre["invert"] == true,
                Some(_) => false,
            };
            let pattern = &pre["pattern"];
            let literal = pattern["String"].as_str().map(escape);
            let source = pattern["Regex"].as_str().map(str::to_owned).or(literal);
            source.filter(|_| kept).ok_or_else(|| unreadable(pre))?
        }
        Some("ByteLevel") if pre["add_prefix_space"] == true => return Err(unreadable(pre)),
        Some("ByteLevel") if pre["use_regex"] == false => return Ok(None),
        Some("ByteLevel") => GPT2.into(),
        Some("Digits") if pre["individual_digits"] == true => DIGIT.into(),
        Some("Digits") => DIGITS.into(),
        Some("Punctuation") => match pre["behavior"].as_str() {
            None | Some("Isolated") => PUNCTUATION.into(),
            Some("Contiguous") => format!("{PUNCTUATION}+"),
            Some(_) => return Err(unreadable(pre)),
        },
        _ => return Err(unreadable(pre)),
    }))
}

/// Escapes a literal for a pattern.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| (!c.is_alphanumeric() && !c.is_whitespace()).then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
#[path = "pre_tokenizer_tests.rs"]
mod tests;
