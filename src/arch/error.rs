//! What can be wrong with a model's description.

use crate::TensorType;

/// Why a model's metadata or tensors cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No `general.architecture`.
    #[error("key general.architecture is missing")]
    NoArchitecture,
    /// An architecture that is not in the table.
    #[error("architecture {name} is not known (nearest: {nearest}; known: {known})")]
    UnknownArchitecture {
        /// The name found.
        name: String,
        /// The known name that is most alike.
        nearest: &'static str,
        /// All known names.
        known: String,
    },
    /// A key that the architecture needs.
    #[error("key {key} is missing")]
    MissingKey {
        /// Full name of the key.
        key: String,
    },
    /// A key of the wrong type or outside its range.
    #[error("key {key}: {found}, expected {expected}")]
    BadKey {
        /// Full name of the key.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A tensor that the architecture needs.
    #[error("tensor {name} is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture has no place for.
    #[error("tensor {name}: the architecture {architecture} has no such tensor")]
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// `general.architecture`.
        architecture: String,
    },
    /// A tensor whose shape does not agree with the metadata.
    #[error("tensor {name}: shape {found:?}, expected {expected:?}")]
    BadShape {
        /// Its name.
        name: String,
        /// Shape in the file.
        found: Vec<u64>,
        /// Shape that the metadata asks for.
        expected: Vec<u64>,
    },
    /// A tensor of a type that cannot be computed with.
    #[error("tensor {name}: type {ty} cannot be run")]
    BadType {
        /// Its name.
        name: String,
        /// Its type.
        ty: TensorType,
    },
}
