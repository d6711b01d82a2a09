//! Safetensors checkpoints: one file, or shards named by an index.
//!
//! [`Checkpoint`] trusts nothing that a file says: every tensor has its own bytes, they leave no gap and end where the
//! file ends, as the format demands. The `safetensors` crate checks the same; it wants the whole file in memory, though,
//! and its errors do not name the tensor.
//!
//! Layout: <https://github.com/huggingface/safetensors#format>.

mod checkpoint;
mod dtype;
mod error;
mod header;
mod index;
mod json;
mod write;

pub use checkpoint::{Checkpoint, TensorInfo};
pub use dtype::Dtype;
pub use error::{Error, FormatError, IndexProblem, Place, Problem};
pub use write::header_bytes;

/// Dimensions of a tensor.
const MAX_DIMS: usize = 8;
