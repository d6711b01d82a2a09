//! What the header says about one tensor.

use crate::tensor_type::TensorType;

/// Name, shape, type and place of a tensor. Made by the reader, which has checked that its data lie inside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the model.
    pub name: String,
    /// Dimensions in the format's order: the fastest-running one (columns) first; 0 to 4 of them.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub ty: TensorType,
    pub(super) elements: u64,
    pub(super) bytes: u64,
    pub(super) offset: u64,
    pub(super) shard: usize,
}

/// A tensor of an unknown type. Its size is taken to be the bytes up to the next tensor's data, or to the end of the
/// file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTensor {
    /// Name.
    pub name: String,
    /// Dimensions in the format's order.
    pub shape: Vec<u64>,
    /// Number of the type in the file.
    pub type_id: u32,
    pub(super) bytes: u64,
    pub(super) offset: u64,
    pub(super) shard: usize,
}

impl UnknownTensor {
    /// Bytes of the data, padding included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Start of the data, in bytes from the start of its shard's data section.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of the shard that holds the data, from 0.
    #[must_use]
    pub const fn shard(&self) -> usize {
        self.shard
    }
}

impl TensorInfo {
    /// Number of elements: the product of all dimensions.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Bytes of the data.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Start of the data, in bytes from the start of its shard's data section.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of the shard that holds the data, from 0.
    #[must_use]
    pub const fn shard(&self) -> usize {
        self.shard
    }

    /// Elements of a row: the first dimension (1 for a tensor of no dimensions).
    #[must_use]
    pub fn cols(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all dimensions but the first.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.elements.checked_div(self.cols()).unwrap_or(0)
    }

    /// Bytes of a row.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        self.bytes.checked_div(self.rows()).unwrap_or(0)
    }
}
