//! WordPiece: each word, usually in lower case and without accents, is split greedily into the longest tokens.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::unicode::{ACCENTS, CONTROLS, PUNCTUATION};
use super::vocab::{PieceMap, Vocab};

/// The encoder.
pub(super) struct WordPiece {
    by_text: PieceMap<u32>,
    longest: usize,
    unknown: u32,
    lowercase: bool,
    strip_accents: bool,
}

impl WordPiece {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let mut by_text = PieceMap::default();
        for (id, text) in (0..).zip(&vocab.tokens) {
            by_text.insert(text.clone().into_boxed_slice(), id);
        }
        let longest = vocab.tokens.iter().map(Vec::len).max().unwrap_or(0);
        let unknown = vocab.special.unknown.unwrap_or(100);
        Self { by_text, longest, unknown, lowercase: vocab.lowercase, strip_accents: vocab.strip_accents }
    }

    /// The normalized text: in lower case and without accents, if the settings say so.
    pub(super) fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match (self.strip_accents, self.lowercase) {
            (true, lowercase) => {
                let bare = text.nfd().filter(|&c| !ACCENTS.contains(c));
                if lowercase { bare.flat_map(char::to_lowercase).collect() } else { bare.collect() }
            }
            (false, true) => text.chars().flat_map(char::to_lowercase).collect(),
            (false, false) => text.into(),
        }
    }

    /// Appends the tokens of a normalized text.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) {
        for word in Self::words(text) {
            // Words in the vocabulary begin with `▁`.
            let word = format!("▁{word}");
            let first = tokens.len();
            let mut at = 0;
            while at < word.len() {
                let end = (at + self.longest).min(word.len());
                let piece = (at + 1..=end).rev().find_map(|end| {
                    let token = self.by_text.get(&word.as_bytes()[at..end])?;
                    Some((end, *token))
                });
                let Some((end, token)) = piece else {
                    tokens.truncate(first);
                    tokens.push(self.unknown);
                    break;
                };
                tokens.push(token);
                at = end;
            }
        }
    }

    /// The words of a text; punctuation and Chinese characters are words of their own.
    fn words(text: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let push = |c: char| {
            let alone = PUNCTUATION.contains(c) || c.is_ascii_punctuation() || is_chinese(c);
            if c.is_whitespace() {
                words.push(String::new());
            } else if c != '\0' && c != char::REPLACEMENT_CHARACTER && !CONTROLS.contains(c) {
                if alone {
                    words.push(String::new());
                }
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
                if alone {
                    words.push(String::new());
                }
            }
        };
        text.chars().for_each(push);
        words.retain(|word| !word.is_empty());
        words
    }
}

/// The Unicode blocks that BERT treats as Chinese, with the same bounds as BERT's code.
fn is_chinese(c: char) -> bool {
    matches!(
        c as u32,
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
