//! Errors of comparing models.

use std::io;
use std::path::PathBuf;

use crate::files::FileError;
use crate::inspect::DecodeError;
use crate::perplexity;
use crate::printable::{printable, printable_path};

/// An error of a comparison.
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
    /// The vocabularies have different sizes.
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
    /// The vocabularies have the same size but different tokens.
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
    /// A logit is NaN or infinite.
    #[error("{}: computes NaN or infinity at position {position} of chunk {chunk}", printable(model))]
    NotFinite {
        /// The model.
        model: String,
        /// The chunk, from 1.
        chunk: usize,
        /// The position in the chunk.
        position: usize,
    },
    /// A file of logits cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a valid file of logits.
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
