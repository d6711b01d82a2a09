//! Safetensors checkpoints: one file, or shards named by an index.
//!
//! [`Checkpoint`] checks everything in a file: every tensor has its own bytes, without gaps and up to the end of the file, as
//! the format requires. The `safetensors` crate checks the same, but needs the whole file in memory, and its errors do not name
//! the tensor.
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
