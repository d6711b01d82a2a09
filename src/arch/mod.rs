//! Model architectures: one folder a family, one row in [`FAMILIES`] to register it.

mod error;
mod hparams;
pub mod keys;

pub use error::Error;
pub use hparams::Hparams;
