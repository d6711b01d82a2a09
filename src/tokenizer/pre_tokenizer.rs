//! Cutting text into the words that byte-pair merges stay within.

use std::ops::Range;

use super::pattern::Pattern;

#[path = "pre_tokenizer_table.rs"]
mod table;

/// One way of cutting text, with the tokenizer settings that go with its name.
pub(super) struct PreTokenizer {
    /// Names in files; the first is the one this crate writes.
    pub(super) names: &'static [&'static str],
    /// Each cuts the pieces that the one before has left.
    patterns: &'static [&'static str],
    pub(super) flags: Flags,
}

/// Settings that go with a pre-tokenizer's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags {
    /// A word that is a token is not merged from its bytes.
    pub(super) whole_words: bool,
    /// Whether texts begin with the begin-of-text token, where the file does not say it.
    pub(super) add_bos: Option<bool>,
    /// Texts end with the separator.
    pub(super) add_separator: bool,
    /// Merges begin with characters, not with bytes.
    pub(super) characters: bool,
    /// Spaces become `▁` first.
    pub(super) escape_spaces: bool,
}

/// The pre-tokenizer called `name`.
pub(super) fn named(name: &str) -> Option<&'static PreTokenizer> {
    table::TABLE.iter().find(|pre| pre.names.contains(&name))
}

/// Every name.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table::TABLE.iter().flat_map(|pre| pre.names).copied()
}

/// A pre-tokenizer's patterns, compiled.
#[derive(Debug)]
pub(super) struct Splitter {
    patterns: Vec<Pattern>,
}

impl Splitter {
    pub(super) fn new(pre: &PreTokenizer) -> Self {
        Self { patterns: pre.patterns.iter().map(|source| Pattern::new(source)).collect() }
    }

    /// Calls `word` with each word of `text`.
    pub(super) fn split(&self, text: &str, mut word: impl FnMut(&str)) {
        if let [pattern] = self.patterns.as_slice() {
            return pattern.split(text, word);
        }
        let mut pieces: Vec<Range<usize>> = Vec::new();
        pieces.push(0..text.len());
        let mut next = Vec::new();
        for pattern in &self.patterns {
            next.clear();
            for piece in &pieces {
                let mut at = piece.start;
                pattern.split(&text[piece.clone()], |part| {
                    next.push(at..at + part.len());
                    at += part.len();
                });
            }
            std::mem::swap(&mut pieces, &mut next);
        }
        pieces.into_iter().for_each(|piece| word(&text[piece]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_loses_nothing() {
        let text = "Hello, wörld's\t12345 — 中文 かな \n\n  한국 x²  <a>\u{301}e 🙂🙂\r\n…";
        for pre in table::TABLE {
            let mut joined = String::new();
            Splitter::new(pre).split(text, |word| joined.push_str(word));
            assert_eq!(joined, text, "{:?}", pre.names);
        }
        assert!(named("llama-bpe").is_some_and(|pre| pre.flags.whole_words));
        let all: Vec<_> = names().collect();
        assert!(all.iter().enumerate().all(|(i, name)| !all[..i].contains(name)), "a name twice");
    }
}
