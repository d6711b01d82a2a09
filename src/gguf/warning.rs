//! Warnings about oddities of a file that are allowed or harmless.

use crate::printable::printable;

/// Something about a file that its owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Warning {
    #[error("key {}: the text is not UTF-8; invalid bytes have been replaced", printable(key))]
    NotUtf8 { key: String },
    #[error("tensor {} has no elements", printable(tensor))]
    NoElements { tensor: String },
    #[error("{bytes} bytes between tensors belong to no tensor")]
    Gaps { bytes: u64 },
    #[error("{bytes} bytes after the last tensor")]
    TrailingBytes { bytes: u64 },
}
