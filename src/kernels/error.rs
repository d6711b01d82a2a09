//! What can be wrong with a matrix.

use crate::TensorType;

/// Why a matrix cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Rows that do not fill whole blocks of their type.
    #[error("rows of {cols} {ty} elements do not fill whole blocks of {block_len}", block_len = ty.block_len())]
    PartialBlock {
        /// The type.
        ty: TensorType,
        /// Elements in a row.
        cols: usize,
    },
    /// The number of bytes does not match the shape.
    #[error("{found} bytes are not a matrix of {rows} rows and {cols} columns of {ty}")]
    Size {
        /// The type.
        ty: TensorType,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
        /// Bytes given.
        found: usize,
    },
    /// A type that no product can be computed with.
    #[error("no products with weights of type {ty}")]
    Unsupported {
        /// The type.
        ty: TensorType,
    },
}
