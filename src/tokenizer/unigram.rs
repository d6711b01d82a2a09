//! SentencePiece's unigram model: the likeliest sequence of tokens, found by the Viterbi algorithm.

use super::Error;
use super::trie::Trie;
use super::vocab::{TokenKind, Vocab};

/// How much the score of the unknown token is below the lowest score.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The encoder.
pub(super) struct Unigram {
    tokens: Trie,
    user_defined: Trie,
    scores: Vec<f64>,
    unknown: u32,
    unknown_score: f64,
    /// Byte tokens, used in place of the unknown token if the vocabulary has all of them.
    bytes: Option<Vec<u32>>,
    map: CharacterMap,
    add_space_prefix: bool,
    merge_spaces: bool,
}

/// SentencePiece's precompiled normalizer: a double-array trie of the sources, and the replacements as null-terminated
/// strings.
struct CharacterMap {
    array: Vec<u32>,
    replacements: Vec<u8>,
}

impl CharacterMap {
    fn new(bytes: &[u8]) -> Result<Self, Error> {
        let bad =
            Error::BadKey { key: "tokenizer.ggml.precompiled_charsmap", expected: "a sentencepiece character map" };
        let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
            return if bytes.is_empty() { Ok(Self { array: Vec::new(), replacements: Vec::new() }) } else { Err(bad) };
        };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((array, replacements)) = rest.split_at_checked(size) else { return Err(bad) };
        let array = array.as_chunks::<4>().0.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        Ok(Self { array, replacements: replacements.to_vec() })
    }

    /// The longest source at the start of `text`: its length and replacement.
    fn longest(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let entry = |index: u32| self.array.get(index as usize).copied();
        let base = |node: u32| (node >> 10) << ((node & 1 << 9) >> 6);
        let mut index = base(entry(0)?);
        let mut found = None;
        for (i, &byte) in text.iter().enumerate() {
            index ^= u32::from(byte);
            let Some(node) = entry(index) else { break };
            if byte == 0 || node & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            index ^= base(node);
            if node >> 8 & 1 != 0 {
                found = entry(index).map(|value| (i + 1, (value & 0x7fff_ffff) as usize));
            }
        }
        let (len, start) = found?;
        let text = self.replacements.get(start..)?;
        let end = text.iter().position(|&b| b == 0)?;
        Some((len, &text[..end]))
    }
}

impl Unigram {
    pub(super) fn new(vocab: &Vocab) -> Result<Self, Error> {
        let (mut tokens, mut user_defined) = (Trie::default(), Trie::default());
        let mut scores = Vec::with_capacity(vocab.tokens.len());
        let mut least = f32::MAX;
        let mut bytes = vec![None; 256];
        for ((id, text), kind) in (0..).zip(&vocab.tokens).zip(&vocab.kinds) {
            let score = vocab.scores.get(id as usize).copied().unwrap_or(0.0);
            if *kind == TokenKind::Normal {
                least = least.min(score);
            }
            if matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused) {
                tokens.insert(text, id);
            }
            if *kind == TokenKind::UserDefined {
                user_defined.insert(text, id);
            }
            if let (TokenKind::Byte, Some(byte)) = (kind, super::byte_of(text)) {
                bytes[usize::from(byte)] = Some(id);
            }
            scores.push(if *kind == TokenKind::UserDefined { 0.0 } else { f64::from(score) });
        }
        Ok(Self {
            tokens,
            user_defined,
            scores,
            unknown: vocab.special.unknown.unwrap_or(2),
            unknown_score: f64::from(least - UNKNOWN_PENALTY),
            bytes: bytes.into_iter().collect(),
            map: CharacterMap::new(&vocab.character_map)?,
            add_space_prefix: vocab.add_space_prefix,
            merge_spaces: vocab.remove_extra_spaces,
        })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) {
        let text = self.normalized(text);
        let bytes = text.as_bytes();
        // For each position: the best score up to it, its last token, and the start of that token.
        let mut best = vec![(f64::MIN, self.unknown, 0); bytes.len() + 1];
        best[0].0 = 0.0;
        for (at, c) in text.char_indices() {
            let so_far = best[at].0;
            let mut single = false;
            for (len, token) in self.tokens.prefixes(&bytes[at..]) {
                single |= len == c.len_utf8();
                let score = so_far + self.scores[token as usize];
                if score > best[at + len].0 {
                    best[at + len] = (score, token, at);
                }
            }
            let (end, score) = (at + c.len_utf8(), so_far + self.unknown_score);
            if !single && score > best[end].0 {
                best[end] = (score, self.unknown, at);
            }
        }
        let first = tokens.len();
        let mut at = bytes.len();
        while at > 0 {
            let (_, token, start) = best[at];
            if let (true, Some(ids)) = (token == self.unknown, &self.bytes) {
                tokens.extend(bytes[start..at].iter().rev().map(|&byte| ids[usize::from(byte)]));
            } else if token != self.unknown || tokens.len() == first || tokens.last() != Some(&token) {
                // Adjacent unknown characters are one token.
                tokens.push(token);
            }
            at = start;
        }
        tokens[first..].reverse();
    }

    fn normalized(&self, text: &str) -> String {
        let mut out = Vec::with_capacity(text.len() + 16);
        let (mut in_word, mut prefixed) = (false, false);
        let mut at = 0;
        while at < text.len() {
            let rest = &text.as_bytes()[at..];
            let own = text[at..].chars().next().map_or(1, char::len_utf8);
            let (consumed, piece) = match (self.user_defined.longest(rest), self.map.longest(rest)) {
                (Some((len, _)), _) => (len, &rest[..len]),
                (None, Some((len, replacement))) => (len, replacement),
                (None, None) => (own, &rest[..own]),
            };
            for &byte in piece {
                if byte == b' ' {
                    in_word = false;
                    if !self.merge_spaces {
                        out.extend("▁".bytes());
                    }
                    continue;
                }
                if !in_word {
                    in_word = true;
                    if self.add_space_prefix && !prefixed || self.merge_spaces {
                        out.extend("▁".bytes());
                        prefixed = true;
                    }
                }
                out.push(byte);
            }
            at += consumed;
            while !text.is_char_boundary(at) {
                at += 1;
            }
        }
        String::from_utf8(out).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}
