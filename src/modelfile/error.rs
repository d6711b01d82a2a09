//! What can be wrong with a Modelfile, or with making a model.

use std::path::PathBuf;

use crate::printable::{printable, printable_path};
use crate::stores::StoreError;
use crate::{convert, engine, gguf, quantize};

/// Errors of a Modelfile, and of making a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A line of a Modelfile makes no sense.
    #[error("line {line}: {problem}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A parameter that there is not, or whose value has another type.
    #[error("parameter {}: {problem}", printable(name).limit(80))]
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The recipe says not what the model is made from.
    #[error("no FROM: it names the model that another is made from")]
    NoBase,
    /// The template cannot be used.
    #[error("the template: {0}")]
    Template(#[from] engine::GoTemplateError),
    /// A model of several files has no place in a manifest.
    #[error("{}: a model of several files: `gguf merge` makes one of them", printable_path(path))]
    Split {
        /// Its first file.
        path: PathBuf,
    },
    /// An adapter that is none.
    #[error("{}: no adapter (LoRA) in GGUF form", printable_path(path))]
    NoAdapter {
        /// The file.
        path: PathBuf,
    },
    /// A blob that a request names is not in the store.
    #[error("no blob {digest}: it has to be sent first")]
    NoBlob {
        /// Its SHA-256.
        digest: String,
    },
    /// The manifest of the model that another is made from cannot be read.
    #[error("{}: the manifest cannot be read", printable_path(path))]
    Manifest {
        /// The manifest.
        path: PathBuf,
    },
    /// Something cannot be put into the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is no model.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A model cannot be quantized.
    #[error(transparent)]
    Quantize(#[from] quantize::Error),
    /// A checkpoint cannot be converted.
    #[error(transparent)]
    Convert(#[from] convert::Error),
    /// The observer has stopped the work.
    #[error("stopped")]
    Stopped,
}
