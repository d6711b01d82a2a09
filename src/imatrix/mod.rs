//! Importance matrices: how large the inputs of each matrix of a model are, column by column. Quantizing weighs errors
//! by them.
//!
//! A [`Collector`] runs a text through a model and sums up squared inputs; [`ImportanceMatrix`] holds the sums, reads and
//! writes llama-imatrix's two forms of files, and merges several of them; [`statistics`] describes them.

mod collect;
mod error;
mod file;
mod matrix;
mod statistics;

pub use collect::{Collector, Options, Progress};
pub use error::Error;
pub use file::FileForm;
pub use matrix::{Entry, ImportanceMatrix};
pub use statistics::{LayerStatistics, TensorStatistics, by_layer, statistics};
