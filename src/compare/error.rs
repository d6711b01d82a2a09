//! Why models cannot be compared.

use std::io;
use std::path::PathBuf;

use crate::files::FileError;
use crate::inspect::DecodeError;
use crate::perplexity;
use crate::printable::{printable, printable_path};

/// Why models cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text cannot be evaluated.
    #[error("{}: {source}", printable(model))]
    Text {
        /// The model.
        model: String,
        /// Why.
        source: perplexity::Error,
    },
    /// Models with vocabularies of other sizes.
    #[error(
        "{}: has {found} tokens, {} has {expected}: models of other vocabularies cannot be compared",
        printable(model),
        printable(base)
    )]
    VocabularySize {
        /// The model.
        model: String,
        /// What it is compared with.
        base: String,
        /// Tokens of the model.
        found: usize,
        /// Tokens of what it is compared with.
        expected: usize,
    },
    /// Models with vocabularies of the same size and other tokens.
    #[error(
        "{}: token {token} is {}, in {} it is {}: models of other vocabularies cannot be compared",
        printable(model),
        printable(found),
        printable(base),
        printable(expected)
    )]
    VocabularyToken {
        /// The model.
        model: String,
        /// What it is compared with.
        base: String,
        /// The first token that differs.
        token: u32,
        /// Its text in the model.
        found: String,
        /// Its text in what the model is compared with.
        expected: String,
    },
    /// Nothing to compare.
    #[error("no model to compare with the base")]
    NoModels,
    /// No chunk to evaluate.
    #[error("no chunk to evaluate")]
    NoChunks,
    /// A logit that is no number.
    #[error("{}: computes NaN or infinity at position {position} of chunk {chunk}", printable(model))]
    NotFinite {
        /// The model.
        model: String,
        /// The chunk, from 1.
        chunk: usize,
        /// The position in it.
        position: usize,
    },
    /// A file of logits cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that holds no logits, or other ones than it says.
    #[error("{}: {problem}", printable_path(path))]
    BaseFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A tensor cannot be read.
    #[error(transparent)]
    Tensor(#[from] DecodeError),
    /// A file of logits cannot be written.
    #[error("the logits of the base cannot be written: {0}")]
    Write(#[from] io::Error),
}
