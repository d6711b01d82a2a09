//! What can be wrong with a matrix or with the choice of a CPU.

use crate::TensorType;

/// Why a matrix, or an instruction set, cannot be used.
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
    /// More or fewer bytes than the shape needs.
    #[error("a matrix of {rows} rows and {cols} columns of {ty} has {found} bytes, not its own number of bytes")]
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
    /// `GGUF_CPU` names no instruction set.
    #[error("GGUF_CPU={name}: no such instruction set (there are {})", names())]
    UnknownCpu {
        /// What it names.
        name: String,
    },
    /// `GGUF_CPU` names an instruction set that this CPU lacks.
    #[error("GGUF_CPU={name}: this CPU cannot run it")]
    MissingCpu {
        /// What it names.
        name: String,
    },
}

fn names() -> String {
    super::Isa::ALL.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}
