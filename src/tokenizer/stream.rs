//! Decodes a stream of tokens to text without splitting characters.

use super::{TokenKind, Tokenizer};

/// Decodes tokens one by one, and holds back the bytes of an incomplete character.
pub struct StreamDecoder {
    held: Vec<u8>,
    /// Whether the next bytes are the first ones, from which the space prefix is removed.
    at_start: bool,
    special: bool,
}

impl StreamDecoder {
    /// A decoder in the middle of a text. `special` shows control tokens.
    #[must_use]
    pub fn new(special: bool) -> Self {
        Self { held: Vec::new(), at_start: false, special }
    }

    /// A decoder at the start of a text.
    #[must_use]
    pub fn at_start(special: bool) -> Self {
        Self { at_start: true, ..Self::new(special) }
    }

    /// Adds `token`, and returns the text that is complete.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        if !self.special && matches!(tokenizer.kind(token), TokenKind::Control | TokenKind::Unknown) {
            return String::new();
        }
        let mut piece = tokenizer.piece(token);
        if self.at_start && !piece.is_empty() {
            self.at_start = false;
            if tokenizer.vocab().add_space_prefix {
                piece = piece.strip_prefix(b" ").unwrap_or(piece);
            }
        }
        self.held.extend_from_slice(piece);
        let complete = complete_len(&self.held);
        let text = String::from_utf8_lossy(&self.held[..complete]).into_owned();
        self.held.drain(..complete);
        text
    }

    /// The rest at the end of a text: U+FFFD for an incomplete character.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// Number of bytes before an incomplete character at the end.
fn complete_len(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for (i, &byte) in bytes.iter().enumerate().skip(tail) {
        let len = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => continue,
        };
        if i + len > bytes.len() {
            return i;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::complete_len;

    #[test]
    fn characters_are_held_until_complete() {
        let text = "aé中🙂".as_bytes();
        let ends: Vec<usize> = (0..=text.len()).map(|n| complete_len(&text[..n])).collect();
        assert_eq!(ends, [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10]);
        assert_eq!(complete_len(&[0xff, b'a', 0x80]), 3, "what is no UTF-8 is not waited for");
    }
}
