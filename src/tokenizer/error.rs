//! Why a vocabulary makes no tokenizer.

use crate::printable::printable;

/// What is wrong with a vocabulary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key that a tokenizer needs.
    #[error("key {key} is missing")]
    MissingKey {
        /// Its name.
        key: &'static str,
    },
    /// A key of the wrong type or outside its range.
    #[error("key {key}: expected {expected}")]
    BadKey {
        /// Its name.
        key: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// A list that has not an element for each token.
    #[error("key {key}: {found} elements for {tokens} tokens")]
    BadLength {
        /// Its name.
        key: &'static str,
        /// Elements found.
        found: usize,
        /// Number of tokens.
        tokens: usize,
    },
    /// A kind of tokenizer that is not known.
    #[error("key tokenizer.ggml.model: {} is not known (known: llama, gpt2, t5, bert, gemma4)", printable(name))]
    UnknownModel {
        /// Its name.
        name: String,
    },
    /// A pre-tokenizer that is not known.
    #[error("key tokenizer.ggml.pre: {} is not known (nearest: {nearest})", printable(name))]
    UnknownPre {
        /// Its name.
        name: String,
        /// The known name that is most alike.
        nearest: &'static str,
    },
    /// A vocabulary that cannot say a byte.
    #[error("no token for byte 0x{byte:02x}, and none for the unknown")]
    NoByte {
        /// The byte.
        byte: u8,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {tokens}")]
    UnknownToken {
        /// The id.
        token: u64,
        /// Number of tokens.
        tokens: usize,
    },
}
