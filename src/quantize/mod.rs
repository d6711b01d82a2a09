//! Quantizing models: a plan that can be read first, then one pass over the weights.

mod error;
mod file_type;
mod mix;
mod name;
mod plan;
mod run;
mod source;

pub use error::Error;
pub use file_type::FileType;
pub use name::output_name;
pub use plan::{Options, Plan, PlannedTensor, Reason, TensorPattern};
pub use run::{Progress, run, run_in_memory};
pub use source::{GgufSource, Source};
