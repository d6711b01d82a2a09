//! Loading a file as a model that can be run.

mod adapter;
mod dialects;
mod error;
mod fingerprint;
mod layouts;
mod load;
mod outline;
mod replaced;
mod resident;
pub mod tokenizer;
mod warning;
mod work;

pub use adapter::Adapter;
pub use error::{AdapterProblem, Error, PredictionError};
pub(crate) use load::Header;
pub use load::{Applied, Loading, Model};
pub use outline::Outline;
pub use warning::Warning;
pub use work::{Products, Work};
