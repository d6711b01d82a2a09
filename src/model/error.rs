//! Why a file is no model that can be run.

use std::path::PathBuf;

use crate::printable::{printable, printable_path};
use crate::{arch, gguf, kernels, network, tokenizer};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read, or is no valid GGUF file.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// Its metadata or tensors do not make a model.
    #[error("{}: {source}", printable_path(path))]
    Architecture {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: arch::Error,
    },
    /// A tensor does not fit the network.
    #[error("{}: {source}", printable_path(path))]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: network::Error,
    },
    /// A tensor's type is not known.
    #[error("{}: tensor {}: tensor type {type_id} is not known", printable_path(path), printable(name))]
    UnknownType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Number of the type.
        type_id: u32,
    },
    /// A tensor cannot be computed with.
    #[error("{}: tensor {name}: {source}", printable_path(path))]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong.
        source: kernels::Error,
    },
    /// Its tokenizer is not valid.
    #[error("{}: tokenizer: {source}", printable_path(path))]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: tokenizer::Error,
    },
    /// The system gives no memory for the weights.
    #[error("{}: no memory for {needed} bytes of weights (--load mmap needs none): {source}", printable_path(path))]
    Memory {
        /// The file.
        path: PathBuf,
        /// Bytes of the weights.
        needed: u64,
        /// The system's word.
        source: std::io::Error,
    },
}
