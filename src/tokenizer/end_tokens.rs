//! The tokens that end a generation: those that a file names, and those with known texts.
//!
//! The texts are those of llama.cpp's `llama-vocab.cpp`: files have keys for a few of a model's end tokens only.

use std::collections::HashMap;

use super::vocab::{SpecialIds, TokenKind};

/// Texts of tokens that end a turn, a message or a text.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Texts of tokens that end a fill-in-the-middle answer: padding, and the start of the next file or repository. One token of each
/// list is used.
const ENDS_OF_MIDDLE: [&[&str]; 3] = [
    &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
    &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
    &["<|file_sep|>"],
];

/// The tokens that end a generation, in ascending order.
#[must_use]
pub fn end_tokens(texts: &[Vec<u8>], kinds: &[TokenKind], special: &SpecialIds) -> Vec<u32> {
    let listed = ENDS.iter().chain(ENDS_OF_MIDDLE.into_iter().flatten());
    let mut ids: HashMap<&[u8], Option<u32>> = listed.map(|text| (text.as_bytes(), None)).collect();
    for (id, text) in (0..).zip(texts) {
        if let Some(entry) = ids.get_mut(text.as_slice()) {
            entry.get_or_insert(id);
        }
    }
    let id = |text: &str| ids.get(text.as_bytes()).copied().flatten();
    let is_control = |id: u32| kinds.get(id as usize) == Some(&TokenKind::Control);
    let mut ends: Vec<u32> = [special.eos, special.eot, special.eom].into_iter().flatten().collect();
    let named = [special.fim_padding, special.fim_repository, special.fim_separator];
    for (named, texts) in named.into_iter().zip(ENDS_OF_MIDDLE) {
        ends.extend(named.or_else(|| texts.iter().find_map(|text| id(text))));
    }
    // In Harmony and Solar, `<|end|>` ends a message, but generation continues with the next message.
    let goes_on = id("<|return|>").and(id("<|call|>")).is_some()
        || id("<|flush|>").and(id("<|call|>").or_else(|| id("<|calls|>"))).is_some();
    for text in ENDS {
        let end = id(text).filter(|&id| match *text {
            "<|end|>" => !goes_on,
            // In some vocabularies it is an HTML tag.
            "</s>" => is_control(id),
            _ => true,
        });
        ends.extend(end);
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(texts: &[&str], special: &SpecialIds) -> Vec<u32> {
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        let kinds: Vec<TokenKind> = (0..texts.len()).map(|_| TokenKind::Control).collect();
        end_tokens(&texts, &kinds, special)
    }

    #[test]
    fn ends_are_named_or_known_by_their_texts() {
        let special = SpecialIds { eos: Some(3), eot: Some(0), ..SpecialIds::default() };
        let texts = ["first", "<|im_end|>", "<|im_start|>", "last", "<|file_sep|>", "<|repo_name|>", "<|fim_pad|>"];
        assert_eq!(ends(&texts, &special), [0, 1, 3, 4, 5, 6]);
        let special = SpecialIds { fim_padding: Some(2), ..SpecialIds::default() };
        assert_eq!(ends(&texts, &special), [1, 2, 4, 5]);
    }

    #[test]
    fn what_ends_elsewhere_may_go_on_here() {
        let none = SpecialIds::default();
        assert_eq!(ends(&["<|end|>", "<|return|>"], &none), [0, 1]);
        assert_eq!(ends(&["<|end|>", "<|return|>", "<|call|>"], &none), [1, 2]);
        assert_eq!(ends(&["<|end|>", "<|flush|>", "<|calls|>"], &none), [1, 2]);
        assert_eq!(ends(&["<|end|>", "</s>"], &SpecialIds { eos: Some(0), ..none.clone() }), [0, 1]);
        assert_eq!(end_tokens(&[b"</s>".to_vec()], &[TokenKind::UserDefined], &none), [0; 0]);
    }
}
