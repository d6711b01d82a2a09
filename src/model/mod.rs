//! From a file to a model that can be run.

mod error;
mod load;
mod resident;
pub mod tokenizer;

pub use error::Error;
pub use load::{Loading, Model};
