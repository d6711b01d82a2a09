//! Errors of reading, merging and collecting importance matrices.

use std::path::PathBuf;

use crate::printable::{printable, printable_path};
use crate::{files, gguf, perplexity, tokenizer};

/// An error of an importance matrix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The file is not a valid GGUF file, or cannot be written.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// The file cannot be written.
    #[error(transparent)]
    Output(#[from] files::OutputError),
    /// The file is not an importance matrix.
    #[error("{}: not an importance matrix: {problem}", printable_path(path))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An entry of the matrix is not valid.
    #[error("{}: tensor {}: {problem}", printable_path(path), printable(name))]
    Entry {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Two matrices have different numbers of sums or counts for a tensor.
    #[error("tensor {}: {found} {what} cannot be added to {expected}", printable(name))]
    Mismatch {
        /// The tensor.
        name: String,
        /// What differs: sums or counts.
        what: &'static str,
        /// How many the first has.
        expected: usize,
        /// How many the second has.
        found: usize,
    },
    /// The text or the model cannot be used.
    #[error(transparent)]
    Text(#[from] perplexity::Error),
    /// The text cannot be encoded.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] tokenizer::Error),
    /// Nothing is left of the text after skipping chunks.
    #[error("the text has {chunks} chunks of {context} tokens, the first of them to be used is number {first}")]
    NothingLeft {
        /// Chunks of the text.
        chunks: usize,
        /// Tokens of a chunk.
        context: usize,
        /// The first chunk that is wanted, from 0.
        first: usize,
    },
    /// An input of a product is NaN or infinite.
    #[error("tensor {}: the model computes NaN or infinity for its input", printable(name))]
    NotFinite {
        /// The tensor.
        name: String,
    },
}
