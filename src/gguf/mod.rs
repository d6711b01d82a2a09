//! The GGUF file format: reading and writing.
//!
//! [`Reader`] opens a model in one file or in shards, and checks everything in it before using it. [`Writer`] writes a model,
//! which appears under its name when it is complete.

mod byte_order;
mod cursor;
mod error;
mod header;
pub mod keys;
pub mod limits;
mod reader;
mod shards;
mod split_writer;
mod tensor_info;
mod tensor_name;
mod value;
mod warning;
mod writer;

pub use byte_order::ByteOrder;
pub use error::{Error, FormatError, Place, Problem, ShardProblem};
pub use header::DEFAULT_ALIGNMENT;
pub use reader::{Reader, Shard};
pub use shards::shard_file_name;
pub use split_writer::{CompleteModel, SplitWriter, check_outputs, split_file_sizes};
pub use tensor_info::{TensorInfo, UnknownTensor};
pub use tensor_name::{layer_and_part, layer_of, part_of};
pub use value::{Array, Metadata, Value, ValueType};
pub use warning::Warning;
pub use writer::{TensorSpec, Writer, file_size};
