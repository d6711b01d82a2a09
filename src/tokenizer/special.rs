//! Finding tokens that stand for themselves in a text: control tokens, when they are asked for, and user-defined ones.

use std::ops::Range;

use super::trie::Trie;
use super::vocab::{TokenKind, Vocab};

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

/// The special tokens of a vocabulary.
#[derive(Default)]
pub(super) struct Specials {
    /// User-defined tokens alone.
    user: Found,
    /// These and control tokens.
    all: Found,
    /// Tokens that swallow the spaces after them.
    swallow: Vec<bool>,
}

#[derive(Default)]
struct Found {
    trie: Trie,
    /// Bytes that some token begins with.
    first: [u64; 4],
}

impl Found {
    fn insert(&mut self, text: &[u8], id: u32) {
        if let Some(&byte) = text.first() {
            self.first[usize::from(byte) / 64] |= 1 << (byte % 64);
            self.trie.insert(text, id);
        }
    }

    /// The first place from `at` on where a token could begin.
    fn next(&self, text: &str, mut at: usize) -> usize {
        let first = |byte: u8| self.first[usize::from(byte) / 64] >> (byte % 64) & 1 != 0;
        while let Some(found) = text.as_bytes().get(at..).and_then(|rest| rest.iter().position(|&byte| first(byte))) {
            at += found;
            if text.is_char_boundary(at) {
                return at;
            }
            at += 1;
        }
        text.len()
    }

    fn at(&self, text: &[u8]) -> Option<(usize, u32)> {
        let byte = *text.first()?;
        if self.first[usize::from(byte) / 64] >> (byte % 64) & 1 == 0 {
            return None;
        }
        self.trie.longest(text)
    }
}

/// Whether one of `ranges`, which are in order, has a byte in common with `range`.
fn overlaps(ranges: &[Range<usize>], range: Range<usize>) -> bool {
    let after = ranges.partition_point(|other| other.end <= range.start);
    ranges.get(after).is_some_and(|other| other.start < range.end)
}

impl Specials {
    pub(super) fn new(vocab: &Vocab, swallow: Vec<bool>) -> Self {
        let mut specials = Self { swallow, ..Self::default() };
        for ((id, text), kind) in (0..).zip(&vocab.tokens).zip(&vocab.kinds) {
            match kind {
                TokenKind::UserDefined => {
                    specials.user.insert(text, id);
                    specials.all.insert(text, id);
                }
                TokenKind::Control | TokenKind::Unknown => specials.all.insert(text, id),
                _ => {}
            }
        }
        specials
    }

    /// Cuts `text` at its special tokens: the longest at each place. Control tokens that overlap one of the `plain` byte ranges,
    /// which are in order, are text.
    pub(super) fn split<'t>(
        &self,
        text: &'t str,
        parse_special: bool,
        plain: &[Range<usize>],
        mut part: impl FnMut(Part<'t>),
    ) {
        let found = if parse_special { &self.all } else { &self.user };
        if found.trie.is_empty() {
            if !text.is_empty() {
                part(Part::Text(text));
            }
            return;
        }
        let (mut done, mut at) = (0, found.next(text, 0));
        while at < text.len() {
            // A token's text that is no UTF-8 of its own may end inside a character: it is then none.
            let whole = |(len, _): &(usize, u32)| text.is_char_boundary(at + len);
            let mut token = found.at(&text.as_bytes()[at..]).filter(whole);
            if token.is_some_and(|(len, _)| overlaps(plain, at..at + len)) {
                token = self.user.at(&text.as_bytes()[at..]).filter(whole);
            }
            let Some((len, id)) = token else {
                at = found.next(text, at + 1);
                continue;
            };
            if done < at {
                part(Part::Text(&text[done..at]));
            }
            part(Part::Token(id));
            at += len;
            if self.swallow.get(id as usize).copied().unwrap_or(false) {
                at += text[at..].len() - text[at..].trim_start().len();
            }
            done = at;
            at = found.next(text, at);
        }
        if done < text.len() {
            part(Part::Text(&text[done..]));
        }
    }
}
