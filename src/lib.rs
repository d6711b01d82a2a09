//! The toolkit for GGUF model files, as a library; the program `gguf` is built on it.
//!
//! From a checkpoint to an answer:
//!
//! ```
//! use std::sync::Arc;
//!
//! use gguf_toolkit::convert::{Conversion, Folder, Options};
//! use gguf_toolkit::engine::{GenerationOptions, Sampler, SamplerOptions, Session, SessionOptions};
//! use gguf_toolkit::kernels::Pool;
//! use gguf_toolkit::model::Model;
//! use gguf_toolkit::quantize::RunOptions;
//! use gguf_toolkit::tokenizer::EncodeOptions;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = std::env::temp_dir().join(format!("storyteller-{}.gguf", std::process::id()));
//! // Everything is checked before a weight is read.
//! let conversion = Conversion::new(Folder::open("testdata/storyteller".as_ref())?, &Options::default())?;
//! conversion.write(&conversion.plan(&[])?, &path, &RunOptions::default(), &|progress| {
//!     assert!(progress.done <= progress.total);
//!     true // go on
//! })?;
//!
//! let model = Arc::new(Model::load(&path)?);
//! let prompt = model.tokenizer().encode("Once upon a time", EncodeOptions { add_special: true, parse_special: false })?;
//! let mut session = Session::new(model, Arc::new(Pool::new(2)), SessionOptions::default());
//! let mut sampler = Sampler::new(SamplerOptions::greedy());
//! let limits = GenerationOptions { max_tokens: Some(8), ..GenerationOptions::default() };
//! let answer = session.generate(&prompt, &mut sampler, limits, &mut |piece| {
//!     print!("{piece}");
//!     true // go on
//! })?;
//! assert_eq!(answer.tokens.len(), 8);
//! # std::fs::remove_file(path)?;
//! # Ok(())
//! # }
//! ```

#[cfg(not(target_pointer_width = "64"))]
compile_error!("gguf needs a 64-bit CPU: models are mapped whole, and 32 bits of address are too few for most of them");

pub mod arch;
pub mod bench;
pub mod bytes;
pub mod check;
pub mod compare;
pub mod convert;
pub mod cpu;
pub mod edit;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod engine;
pub mod export;
pub mod files;
pub mod formats;
pub mod gguf;
pub mod imatrix;
pub mod inspect;
pub mod kernels;
pub mod memory;
pub mod model;
pub mod modelfile;
#[cfg(feature = "net")]
pub mod net;
pub mod network;
pub mod perplexity;
pub mod printable;
pub mod quantize;
pub mod safetensors;
#[cfg(feature = "serve")]
pub mod serve;
pub(crate) mod simd;
pub mod stores;
pub mod tensor_type;
pub mod tokenizer;

pub use tensor_type::TensorType;
