//! Finding tokens that stand for themselves in a text: control tokens, when they are asked for, and user-defined ones.
//!
//! What the flags of added tokens mean is taken from the tokenizers library (`added_vocabulary.rs`).

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

/// Special tokens that are looked for in the same text: the text as it is given, or as it is normalized.
#[derive(Default)]
pub(super) struct Specials {
    /// User-defined tokens alone.
    user: TokenSet,
    /// These and control tokens.
    all: TokenSet,
    /// Flags of the tokens; empty where none has any.
    flags: Vec<u8>,
}

/// White space before the token belongs to it.
const LSTRIP: u8 = 1;
/// White space after the token belongs to it.
const RSTRIP: u8 = 2;
/// The token is not found next to characters of words.
const SINGLE_WORD: u8 = 4;

#[derive(Default)]
struct TokenSet {
    trie: Trie,
    /// Bytes that some token begins with.
    first: [u64; 4],
}

impl TokenSet {
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
pub(super) fn overlaps(ranges: &[Range<usize>], range: Range<usize>) -> bool {
    let after = ranges.partition_point(|other| other.end <= range.start);
    ranges.get(after).is_some_and(|other| other.start < range.end)
}

impl Specials {
    /// The special tokens of `vocab` that are looked for in texts as they are given.
    pub(super) fn new(vocab: &Vocab) -> Self {
        let later = &vocab.added_tokens.normalized;
        Self::with(vocab, |id, text| later.binary_search(&id).is_err().then(|| text.to_vec()))
    }

    /// Those that are looked for in a text after `normalize`.
    pub(super) fn normalized(vocab: &Vocab, normalize: impl Fn(&str) -> String) -> Self {
        let here = &vocab.added_tokens.normalized;
        Self::with(vocab, |id, text| {
            let text = here.binary_search(&id).ok().and_then(|_| str::from_utf8(text).ok())?;
            Some(normalize(text).into_bytes())
        })
    }

    /// The special tokens for which `spelled` says how they stand in a text.
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
