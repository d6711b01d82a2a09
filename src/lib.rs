//! `gguf`: the toolkit for GGUF model files.

pub mod arch;
pub mod bench;
pub mod bytes;
pub mod convert;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod engine;
pub mod gguf;
pub mod input_file;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod perplexity;
pub mod printable;
pub mod quant;
pub mod quantize;
pub mod safetensors;
pub mod tensor_type;
pub mod tokenizer;

pub use tensor_type::TensorType;
