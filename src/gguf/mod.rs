//! The GGUF file format: reading and writing.
//!
//! [`Reader`] opens a model, whole or split; it trusts nothing that a file says before it has checked it.

mod cursor;
mod error;
mod header;
pub mod keys;
pub mod limits;
mod mmap;
mod reader;
mod shards;
mod tensor_info;
mod value;
mod warning;

pub use error::{Error, FormatError, Place, Problem, ShardProblem};
pub use header::DEFAULT_ALIGNMENT;
pub use reader::{Reader, Shard};
pub use shards::shard_file_name;
pub use tensor_info::TensorInfo;
pub use value::{Array, Metadata, Value, ValueType};
pub use warning::Warning;
