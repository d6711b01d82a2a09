//! Errors of loading a model.

use std::path::PathBuf;

use crate::printable::{printable, printable_path};
use crate::{arch, gguf, kernels, network, tokenizer};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read, or is not a valid GGUF file.
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
    /// The file is not an adapter of the model.
    #[error("{}: {problem}", printable_path(path))]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: AdapterProblem,
    },
    /// The system has no memory for the weights.
    #[error("{}: no memory for {needed} bytes of weights (--load mmap needs none): {source}", printable_path(path))]
    Memory {
        /// The file.
        path: PathBuf,
        /// Bytes of the weights.
        needed: u64,
        /// The OS error.
        source: std::io::Error,
    },
}

/// Why a model cannot predict further tokens by layers of its own (MTP).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictionError {
    /// The file has no such layers.
    #[error("the file has no layers that predict further tokens (MTP)")]
    None,
    /// The family's layers are not computed.
    #[error("the layers that predict further tokens (MTP) of {architecture} models are not computed")]
    NotComputed {
        /// The architecture.
        architecture: String,
    },
    /// A tensor is missing, unexpected or of another shape.
    #[error(transparent)]
    Architecture(#[from] arch::Error),
    /// A tensor does not fit the network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// A tensor cannot be computed with.
    #[error("tensor {name}: {source}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        source: kernels::Error,
    },
}

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterProblem {
    /// It is another kind of file.
    #[error("{key} is {found}, not \"{expected}\"")]
    OtherKind {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The value for an adapter.
        expected: &'static str,
    },
    /// A key has an invalid value.
    #[error("{key}: {problem}")]
    BadKey {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// It is for models of another architecture.
    #[error("the adapter is for {found}, but the model is {expected}")]
    OtherArchitecture {
        /// The adapter's.
        found: String,
        /// The model's.
        expected: String,
    },
    /// A tensor is not a factor of a change.
    #[error("tensor {name} is not a factor of a change (.lora_a, .lora_b): such adapters are not supported")]
    NoFactor {
        /// The tensor.
        name: String,
    },
    /// One of two factors is missing.
    #[error("{missing} of the change of {name} is missing")]
    OneFactor {
        /// The tensor that is changed.
        name: String,
        /// The factor.
        missing: &'static str,
    },
    /// It has no changes.
    #[error("no tensor is changed")]
    Empty,
    /// The model has no such tensor.
    #[error("the model has no tensor {name}: is it another model's adapter?")]
    NoTensor {
        /// The tensor that is changed.
        name: String,
    },
    /// The tensor is used in a way that adapters do not change.
    #[error("changes of {name} are not supported")]
    NoProduct {
        /// The tensor that is changed.
        name: String,
    },
    /// The factors do not fit the tensor.
    #[error("the change of {name} has the shapes {a:?} and {b:?}, but the tensor has {rows} rows of {cols} elements")]
    BadShape {
        /// The tensor that is changed.
        name: String,
        /// Shape of the first factor.
        a: Vec<u64>,
        /// Shape of the second factor.
        b: Vec<u64>,
        /// Rows of the tensor, over all matrices of a stack.
        rows: usize,
        /// Length of a row.
        cols: usize,
    },
}
