//! The GGUF file format.

mod value;

pub use value::{Array, Metadata, Value, ValueType};
