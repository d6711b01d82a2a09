//! From a file to a model that can be run.

mod adapter;
mod dialects;
mod error;
mod layouts;
mod load;
mod resident;
pub mod tokenizer;
mod warning;

pub use adapter::Adapter;
pub use error::{AdapterProblem, Error};
pub(crate) use load::Header;
pub use load::{Loading, Model};
pub use warning::Warning;
