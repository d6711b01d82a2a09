//! Byte-pair encoding of words: from bytes (as in GPT-2) or from characters (as in Gemma 4).

use std::collections::HashMap;

use super::merge::{Pairs, Rank, Symbol, merge};
use super::pre_tokenizer::{Flags, PreTokenizer, Splitter};
use super::vocab::{NumberMap, PieceMap, TokenKind, Vocab};
use super::{Error, bytes_as_text};

/// Maximum words whose tokens are cached within one text.
const CACHED_WORDS: usize = 1 << 16;
/// Words of at most this many bytes are cached.
const CACHED_LEN: usize = 48;

/// The encoder of words.
pub(super) struct Bpe {
    splitter: Splitter,
    flags: Flags,
    /// Tokens by their bytes.
    by_bytes: PieceMap<u32>,
    /// Tokens of single bytes.
    bytes: Vec<Option<u32>>,
    /// Merged token and rank, by the ids of both parts.
    joins: NumberMap<(u32, u32)>,
    unknown: Option<u32>,
}

/// The bytes of each token.
pub(super) fn token_bytes(vocab: &Vocab, characters: bool) -> Vec<Vec<u8>> {
    let decode = |(text, kind): (&Vec<u8>, &TokenKind)| match kind {
        TokenKind::Normal | TokenKind::Unused if characters => unescaped(text),
        TokenKind::Byte => super::byte_of(text).map_or_else(|| text.clone(), |byte| vec![byte]),
        TokenKind::Normal | TokenKind::Unused => bytes_as_text::decode(text).unwrap_or_else(|| text.clone()),
        TokenKind::UserDefined if characters => unescaped(text),
        _ => text.clone(),
    };
    vocab.tokens.iter().zip(&vocab.kinds).map(decode).collect()
}

/// `▁` as spaces.
pub(super) fn unescaped(text: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(text) {
        Ok(text) => text.replace('▁', " ").into_bytes(),
        Err(_) => text.to_vec(),
    }
}

impl Bpe {
    pub(super) fn new(vocab: &Vocab, pre: &PreTokenizer) -> Self {
        let flags = pre.flags;
        let mut by_text: HashMap<&[u8], u32> = HashMap::with_capacity(vocab.tokens.len());
        for (id, text) in (0..).zip(&vocab.tokens) {
            by_text.entry(text).or_insert(id);
        }
        let mut by_bytes = PieceMap::default();
        // Words are looked up in the form in which they are encoded: bytes, or characters with escaped spaces.
        let words = if flags.characters { vocab.tokens.clone() } else { token_bytes(vocab, false) };
        // A word is never a control token. Of two tokens with the same bytes the first is used.
        for ((id, word), kind) in (0..).zip(words).zip(&vocab.kinds) {
            if matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused) {
                by_bytes.entry(word.into_boxed_slice()).or_insert(id);
            }
        }
        let bytes = (0..=255u8)
            .map(|byte| {
                let text = if flags.characters {
                    format!("<0x{byte:02X}>")
                } else {
                    bytes_as_text::character(byte).to_string()
                };
                by_text.get(text.as_bytes()).copied()
            })
            .collect();
        let mut joins = NumberMap::default();
        joins.reserve(vocab.merges.len());
        for (rank, merge) in (0..).zip(&vocab.merges) {
            // The first character may itself be a space.
            let Some(space) = merge.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1) else { continue };
            let (left, right) = (&merge[..space], &merge[space + 1..]);
            let joined = [left, right].concat();
            if let (Some(&left), Some(&right), Some(&token)) =
                (by_text.get(left), by_text.get(right), by_text.get(joined.as_slice()))
            {
                joins.entry(key(left, right)).or_insert((rank, token));
            }
        }
        Self { splitter: Splitter::new(pre), flags, by_bytes, bytes, joins, unknown: vocab.special.unknown }
    }

    /// Appends the tokens of `text`, which has no special tokens.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        let mut cache = PieceMap::<(u32, u32)>::default();
        let mut symbols = Vec::new();
        let mut failed = Ok(());
        self.splitter.split(text, |word| {
            let bytes = word.as_bytes();
            let small = bytes.len() <= CACHED_LEN;
            if let Some(&(start, end)) = small.then(|| cache.get(bytes)).flatten() {
                tokens.extend_from_within(start as usize..end as usize);
                return;
            }
            let start = tokens.len();
            failed = std::mem::replace(&mut failed, Ok(())).and_then(|()| self.encode_word(word, &mut symbols, tokens));
            if let (true, Ok(start), Ok(end)) =
                (small && cache.len() < CACHED_WORDS, u32::try_from(start), u32::try_from(tokens.len()))
            {
                cache.insert(bytes.into(), (start, end));
            }
        });
        failed
    }

    fn encode_word(&self, word: &str, symbols: &mut Vec<Symbol>, tokens: &mut Vec<u32>) -> Result<(), Error> {
        let bytes = word.as_bytes();
        if let Some(&token) = self.flags.whole_words.then(|| self.by_bytes.get(bytes)).flatten() {
            tokens.push(token);
            return Ok(());
        }
        symbols.clear();
        let len = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        if self.flags.characters {
            symbols.extend(word.char_indices().map(|(start, c)| {
                let piece = &bytes[start..start + c.len_utf8()];
                let token = self.by_bytes.get(piece).copied().unwrap_or(Symbol::NO_TOKEN);
                Symbol { token, start: len(start), len: len(piece.len()) }
            }));
        } else {
            symbols.extend(bytes.iter().enumerate().map(|(start, &byte)| {
                let token = self.bytes[usize::from(byte)].unwrap_or(Symbol::NO_TOKEN);
                Symbol { token, start: len(start), len: 1 }
            }));
        }
        merge(symbols, self);
        for symbol in symbols.iter() {
            if symbol.token == Symbol::NO_TOKEN {
                self.spell(&bytes[symbol.start as usize..(symbol.start + symbol.len) as usize], tokens)?;
            } else {
                tokens.push(symbol.token);
            }
        }
        Ok(())
    }

    /// Appends byte tokens for bytes without a token.
    fn spell(&self, bytes: &[u8], tokens: &mut Vec<u32>) -> Result<(), Error> {
        for &byte in bytes {
            tokens.push(self.bytes[usize::from(byte)].or(self.unknown).ok_or(Error::NoByte { byte })?);
        }
        Ok(())
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Pairs for Bpe {
    #[allow(clippy::cast_precision_loss, reason = "ranks are far below 2^24")]
    fn join(&self, left: &Symbol, right: &Symbol) -> Option<(Rank, u32)> {
        self.joins.get(&key(left.token, right.token)).map(|&(rank, token)| (Rank(rank as f32), token))
    }
}
