//! Which known pre-tokenizer a `tokenizer.json` describes: found by what its patterns do, not by how they are spelled.

use serde_json::Value as Json;

use super::error::TokenizerProblem;
use crate::tokenizer::{Recognized, recognize_pre_tokenizer};

/// The words that byte-level pre-tokenizers with `use_regex` cut.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const DIGIT: &str = r"\p{N}";
const DIGITS: &str = r"\p{N}+";

/// The name of the pre-tokenizer that `json` describes.
pub(super) fn recognize(json: &Json) -> Result<&'static str, TokenizerProblem> {
    let mut patterns = Vec::new();
    collect(&json["pre_tokenizer"], &mut patterns)?;
    match recognize_pre_tokenizer(&patterns) {
        Recognized::Known(name) => Ok(name),
        Recognized::Nearest { name, text } => Err(TokenizerProblem::UnknownPre { nearest: name, text }),
        Recognized::Unreadable => Err(TokenizerProblem::UnreadablePre),
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
            let pattern = &pre["pattern"];
            let literal = pattern["String"].as_str().map(escape);
            patterns.extend(pattern["Regex"].as_str().map(str::to_owned).or(literal));
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
        _ => return Err(TokenizerProblem::UnreadablePre),
    }
    Ok(())
}

/// A literal as a pattern.
fn escape(text: &str) -> String {
    text.chars()
        .flat_map(|c| (!c.is_alphanumeric() && !c.is_whitespace()).then_some('\\').into_iter().chain([c]))
        .collect()
}
