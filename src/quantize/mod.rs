//! Quantizing models: a plan, which can be inspected first, then one pass over the weights.

mod checksum;
mod error;
mod file_type;
mod importance;
mod like;
mod mix;
mod name;
mod needs;
mod options;
mod plan;
mod progress;
mod pruned_layers;
mod recipe;
mod run;
mod slab;
mod source;
mod stats;
mod stream;
mod target;
mod verify;

pub use error::Error;
pub use file_type::{FileType, file_type_name, file_type_name_of};
pub use importance::Importance;
pub use like::Like;
pub use name::{output_name, plain_name};
pub use needs::{check_memory, memory_bytes};
pub use options::{Options, TensorPattern, parse_override};
pub use plan::{Plan, PlannedTensor, Reason, SplitBy, TypeTotal, is_quantized};
pub use progress::{Phase, Progress, RunOptions};
pub use recipe::Recipe;
pub use run::{Outcome, run, run_in_memory};
pub use source::{GgufSource, Source};
pub use stats::{ModelError, TensorError, TotalError};
pub use target::{ChosenTensor, Judge, Target, TargetPlan, plan_for};
