//! Measures the loss of quantizing on a text: a base and any number of models made from it, in one pass.
//!
//! The figures are those of llama-perplexity's `--kl-divergence`, by its definitions. llama-perplexity writes the base's logits
//! to a file that grows with text and vocabulary, and needs a run for each model. Here the base and all models evaluate the text
//! chunk by chunk, with a bounded number of logits in memory (see [`Comparison`]). Such files can be read and written as well
//! ([`BaseFile`], [`BaseWriter`]).

mod base_file;
mod curves;
mod divergence;
mod error;
mod expected;
mod passages;
mod run;
mod scores;
mod statistics;
mod tensor_errors;
mod verdict;

pub use base_file::{BaseFile, BaseHeader, BaseWriter};
pub use curves::{Bin, HISTOGRAM_BINS, efficient, histogram, kl_by_position};
pub use divergence::Divergence;
pub use error::Error;
pub use expected::{Evidence, ExpectedLoss, expected_loss};
pub use passages::{Passage, worst_passages};
pub use run::{Base, Comparison, Measured, Options, Outcome, Progress, Speed, Subject, answer_speed};
pub use scores::{BaseScore, Score};
pub use statistics::{Estimate, Quantiles, Statistics};
pub use tensor_errors::{TensorError, tensor_errors};
pub use verdict::Verdict;
