//! Which known pre-tokenizer a `tokenizer.json` describes: found by what its parts do, not by how they are spelled.

use serde_json::Value as Json;

use super::error::TokenizerProblem;
use crate::tokenizer::{Recognized, recognize_pre_tokenizer};

/// The words that byte-level pre-tokenizers with `use_regex` cut.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const DIGIT: &str = r"\p{N}";
const DIGITS: &str = r"\p{N}+";
/// What the tokenizers library takes for punctuation: Unicode's, and ASCII's symbols.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]";
/// Characters are merged only up to the ends of lines.
const LINES: &str = r"[^\n]+|[\n]+";

/// The name of the pre-tokenizer that `json` describes.
pub(super) fn recognize(json: &Json) -> Result<&'static str, TokenizerProblem> {
    let mut characters = false;
    normalizer(&json["normalizer"], &mut characters)?;
    let mut patterns = Vec::new();
    let pre = &json["pre_tokenizer"];
    if characters {
        // Spaces are written as `▁` before this cuts, so that cutting at spaces does nothing.
        if !(pre.is_null() || pre["type"] == "Split" && pre["pattern"]["String"] == " ") {
            return Err(unreadable(pre));
        }
        patterns.push(LINES.into());
    } else {
        collect(pre, &mut patterns)?;
    }
    match recognize_pre_tokenizer(&patterns, characters) {
        Recognized::Known(name) => Ok(name),
        Recognized::Nearest { name, text, found, known } => {
            Err(TokenizerProblem::UnknownPre { nearest: name, text, found, known })
        }
        Recognized::Unreadable => Err(unreadable(pre)),
    }
}

fn unreadable(part: &Json) -> TokenizerProblem {
    TokenizerProblem::UnreadablePre { part: part.to_string() }
}

/// Unicode's normal forms are left to whoever writes the text: no GGUF file can ask for them. `characters` becomes true
/// where spaces are written as `▁`.
fn normalizer(part: &Json, characters: &mut bool) -> Result<(), TokenizerProblem> {
    match part["type"].as_str() {
        None | Some("NFC" | "NFD" | "NFKC" | "NFKD") => Ok(()),
        Some("Sequence") => {
            let parts = part["normalizers"].as_array().map_or(&[][..], Vec::as_slice);
            parts.iter().try_for_each(|part| normalizer(part, characters))
        }
        Some("Replace") if part["pattern"]["String"] == " " && part["content"] == "▁" => {
            *characters = true;
            Ok(())
        }
        Some(_) => Err(TokenizerProblem::Normalizer { part: part.to_string() }),
    }
}

/// The patterns of a pre-tokenizer, in the order in which they cut.
fn collect(pre: &Json, patterns: &mut Vec<String>) -> Result<(), TokenizerProblem> {
    match pre["type"].as_str() {
        Some("Sequence") => {
            let parts = pre["pretokenizers"].as_array().map_or(&[][..], Vec::as_slice);
            return parts.iter().try_for_each(|part| collect(part, patterns));
        }
        Some("Split") => {
            // Matches that are kept and stretches between them that are removed are the same words, where a pattern
            // leaves nothing between.
            let kept = match pre["behavior"].as_str() {
                None | Some("Isolated") => true,
                Some("Removed") => pre["invert"] == true,
                Some(_) => false,
            };
            let pattern = &pre["pattern"];
            let literal = pattern["String"].as_str().map(escape);
            let source = pattern["Regex"].as_str().map(str::to_owned).or(literal);
            patterns.push(source.filter(|_| kept).ok_or_else(|| unreadable(pre))?);
        }
        Some("ByteLevel") => {
            if pre["use_regex"].as_bool().unwrap_or(true) {
                patterns.push(GPT2.into());
            }
        }
        Some("Digits") => {
            let single = pre["individual_digits"].as_bool().unwrap_or(false);
            patterns.push(if single { DIGIT } else { DIGITS }.into());
        }
        Some("Punctuation") => {
            patterns.push(match pre["behavior"].as_str() {
                None | Some("Isolated") => PUNCTUATION.into(),
                Some("Contiguous") => format!("{PUNCTUATION}+"),
                Some(_) => return Err(unreadable(pre)),
            });
        }
        _ => return Err(unreadable(pre)),
    }
    Ok(())
}

/// A literal as a pattern.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| (!c.is_alphanumeric() && !c.is_whitespace()).then_some('\\').into_iter().chain([c]))
        .collect()
}

#[cfg(test)]
#[path = "pre_tokenizer_tests.rs"]
mod tests;
