//! Importance matrices: the mean squared inputs of each matrix of a model, column by column, by which the quantizer weights
//! errors.
//!
//! A [`Collector`] runs a text through a model and sums squared inputs. [`ImportanceMatrix`] has the sums, reads and writes the
//! two file formats of llama-imatrix, and merges matrices. [`statistics`] describes them.

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
