//! SentencePiece BPE: characters are merged to the token with the best score.

use super::Error;
use super::merge::{Pairs, Rank, Symbol, merge};
use super::vocab::{PieceMap, Vocab};

/// The encoder.
pub(super) struct Spm {
    by_text: PieceMap<u32>,
    scores: Vec<f32>,
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// Whether no token has a space after another character, so that words can be encoded one by one.
    by_words: bool,
}

/// The character for spaces.
const SPACE: char = '▁';
/// Maximum words whose tokens are cached within one text.
const CACHED_WORDS: usize = 1 << 16;
/// Words of at most this many bytes are cached.
const CACHED_LEN: usize = 48;

struct Texts<'a> {
    spm: &'a Spm,
    text: &'a [u8],
}

impl Pairs for Texts<'_> {
    fn join(&self, left: &Symbol, right: &Symbol) -> Option<(Rank, u32)> {
        let piece = &self.text[left.start as usize..(right.start + right.len) as usize];
        let token = *self.spm.by_text.get(piece)?;
        let score = self.spm.scores.get(token as usize).copied().unwrap_or(0.0);
        Some((Rank(-score), token))
    }
}

impl Spm {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let mut by_text = PieceMap::default();
        for (id, text) in (0..).zip(&vocab.tokens) {
            by_text.insert(text.clone().into_boxed_slice(), id);
        }
        let bytes = (0..=255u8).map(|b| by_text.get(format!("<0x{b:02X}>").as_bytes()).copied()).collect();
        let by_words = vocab.tokens.iter().all(|text| str::from_utf8(text).is_ok_and(|text| words(text).count() <= 1));
        Self { by_text, scores: vocab.scores.clone(), bytes, unknown: vocab.special.unknown, by_words }
    }

    /// Appends the tokens of `text`, whose spaces are written as `▁`.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if !self.by_words {
            return self.encode_word(text, tokens);
        }
        let mut cache = PieceMap::<(usize, usize)>::default();
        for word in words(text) {
            let small = word.len() <= CACHED_LEN;
            if let Some(&(start, end)) = small.then(|| cache.get(word.as_bytes())).flatten() {
                tokens.extend_from_within(start..end);
                continue;
            }
            let start = tokens.len();
            self.encode_word(word, tokens)?;
            if small && cache.len() < CACHED_WORDS {
                cache.insert(word.as_bytes().into(), (start, tokens.len()));
            }
        }
        Ok(())
    }

    fn encode_word(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        let bytes = text.as_bytes();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .map(|(start, c)| {
                let piece = &bytes[start..start + c.len_utf8()];
                let token = self.by_text.get(piece).copied().unwrap_or(Symbol::NO_TOKEN);
                Symbol { token, start: small(start), len: small(piece.len()) }
            })
            .collect();
        merge(&mut symbols, &Texts { spm: self, text: bytes });
        for symbol in symbols {
            if symbol.token != Symbol::NO_TOKEN {
                tokens.push(symbol.token);
                continue;
            }
            for &byte in &bytes[symbol.start as usize..(symbol.start + symbol.len) as usize] {
                tokens.push(self.bytes[usize::from(byte)].or(self.unknown).ok_or(Error::NoByte { byte })?);
            }
        }
        Ok(())
    }
}

/// The words of a text, each with the spaces before it, so that no token spans two words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
        let end = rest[spaces..].find(SPACE).map_or(rest.len(), |at| spaces + at);
        let (word, later) = rest.split_at(end);
        rest = later;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_have_the_spaces_before_them() {
        let found: Vec<&str> = words("a▁▁b▁c▁").collect();
        assert_eq!(found, ["a", "▁▁b", "▁c", "▁"]);
        assert_eq!(words("").count(), 0);
    }
}
