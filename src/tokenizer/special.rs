//! Finds special tokens in a text: user-defined tokens, and control tokens if requested.
//!
//! The meaning of the flags of added tokens is that of the tokenizers library (`added_vocabulary.rs`).

use std::ops::Range;

use super::trie::Trie;
use super::unicode::WORD;
use super::vocab::{TokenKind, Vocab};

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

/// Special tokens that are matched in the same text, either the original or the normalized one.
#[derive(Default)]
pub(super) struct Specials {
    /// User-defined tokens alone.
    user: TokenSet,
    /// User-defined and control tokens.
    all: TokenSet,
    /// Flags of the tokens; empty if none has any.
    flags: Vec<u8>,
}

/// The token includes white space before it.
const LSTRIP: u8 = 1;
/// The token includes white space after it.
const RSTRIP: u8 = 2;
/// The token is not matched next to word characters.
const SINGLE_WORD: u8 = 4;

#[derive(Default)]
struct TokenSet {
    trie: Trie,
    /// The set of first bytes of all tokens.
    first: [u64; 4],
}

impl TokenSet {
    fn insert(&mut self, text: &[u8], id: u32) {
        if let Some(&byte) = text.first() {
            self.first[usize::from(byte) / 64] |= 1 << (byte % 64);
            self.trie.insert(text, id);
        }
    }

    /// The first offset from `at` on at which a token could begin.
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

/// Whether one of `ranges`, which are sorted, overlaps `range`.
pub(super) fn overlaps(ranges: &[Range<usize>], range: Range<usize>) -> bool {
    let after = ranges.partition_point(|other| other.end <= range.start);
    ranges.get(after).is_some_and(|other| other.start < range.end)
}

impl Specials {
    /// The special tokens of `vocab` that are matched in original texts.
    pub(super) fn new(vocab: &Vocab) -> Self {
        let later = &vocab.added_tokens.normalized;
        Self::with(vocab, |id, text| later.binary_search(&id).is_err().then(|| text.to_vec()))
    }

    /// The special tokens that are matched in texts after `normalize`.
    pub(super) fn normalized(vocab: &Vocab, normalize: impl Fn(&str) -> String) -> Self {
        let here = &vocab.added_tokens.normalized;
        Self::with(vocab, |id, text| {
            let text = here.binary_search(&id).ok().and_then(|_| str::from_utf8(text).ok())?;
            Some(normalize(text).into_bytes())
        })
    }

    /// The special tokens for which `spelled` returns their form in a text.
    fn with(vocab: &Vocab, spelled: impl Fn(u32, &[u8]) -> Option<Vec<u8>>) -> Self {
        let mut specials = Self::default();
        for ((id, text), kind) in (0..).zip(&vocab.tokens).zip(&vocab.kinds) {
            if !matches!(kind, TokenKind::UserDefined | TokenKind::Control | TokenKind::Unknown) {
                continue;
            }
            let Some(text) = spelled(id, text) else { continue };
            if *kind == TokenKind::UserDefined {
                specials.user.insert(&text, id);
            }
            specials.all.insert(&text, id);
        }
        let added = &vocab.added_tokens;
        for (flag, ids) in [(LSTRIP, &added.lstrip), (RSTRIP, &added.rstrip), (SINGLE_WORD, &added.single_word)] {
            for &id in ids {
                specials.flags.resize(vocab.tokens.len(), 0);
                if let Some(flags) = specials.flags.get_mut(id as usize) {
                    *flags |= flag;
                }
            }
        }
        specials
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.trie.is_empty()
    }

    /// Splits `text` at its special tokens, taking the longest at each offset. Control tokens that overlap one of the `plain` byte
    /// ranges, which are sorted, are text.
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
            // A token that is not valid UTF-8 may end inside a character; it is no match then.
            let whole = |(len, _): &(usize, u32)| text.is_char_boundary(at + len);
            let mut token = found.at(&text.as_bytes()[at..]).filter(whole);
            if token.is_some_and(|(len, _)| overlaps(plain, at..at + len)) {
                token = self.user.at(&text.as_bytes()[at..]).filter(whole);
            }
            let Some((len, id)) = token else {
                at = found.next(text, at + 1);
                continue;
            };
            let flags = self.flags.get(id as usize).copied().unwrap_or(0);
            let (mut start, mut end) = (at, at + len);
            let is_word = |c: Option<char>| c.is_some_and(|c| WORD.contains(c));
            if flags & SINGLE_WORD != 0
                && (is_word(text[..start].chars().next_back()) || is_word(text[end..].chars().next()))
            {
                at = found.next(text, end);
                continue;
            }
            if flags & LSTRIP != 0 {
                start = done + text[done..start].trim_end().len();
            }
            if flags & RSTRIP != 0 {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                part(Part::Text(&text[done..start]));
            }
            part(Part::Token(id));
            done = end;
            at = found.next(text, end);
        }
        if done < text.len() {
            part(Part::Text(&text[done..]));
        }
    }
}
