//! Errors of vocabularies and of encoding.

use crate::printable::printable;

/// An error of a vocabulary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A necessary key is missing.
    #[error("key {key} is missing")]
    MissingKey {
        /// Its name.
        key: &'static str,
    },
    /// A key has the wrong type or is out of range.
    #[error("key {key}: expected {expected}")]
    BadKey {
        /// Its name.
        key: &'static str,
        /// What is expected.
        expected: &'static str,
    },
    /// A list does not have one element for each token.
    #[error("key {key}: {found} elements for {tokens} tokens")]
    BadLength {
        /// Its name.
        key: &'static str,
        /// Elements found.
        found: usize,
        /// Number of tokens.
        tokens: usize,
    },
    /// The kind of tokenizer is not known.
    #[error("key tokenizer.ggml.model: {} is not known (known: llama, gpt2, t5, bert, gemma4)", printable(name))]
    UnknownModel {
        /// Its name.
        name: String,
    },
    /// The pre-tokenizer is not known.
    #[error("key tokenizer.ggml.pre: {} is not known (nearest: {nearest})", printable(name))]
    UnknownPre {
        /// Its name.
        name: String,
        /// The most similar known name.
        nearest: &'static str,
    },
    /// The vocabulary has no token for a byte.
    #[error("no token for byte 0x{byte:02x}, and no unknown token")]
    NoByte {
        /// The byte.
        byte: u8,
    },
    /// A token id is outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {tokens}")]
    UnknownToken {
        /// The id.
        token: u64,
        /// Number of tokens.
        tokens: usize,
    },
}
