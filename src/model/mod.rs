//! From a file to a model that can be run.

mod dialects;
mod error;
mod layouts;
mod load;
mod resident;
pub mod tokenizer;
mod warning;

pub use error::Error;
pub(crate) use load::Header;
pub use load::{Loading, Model};
pub use warning::Warning;
