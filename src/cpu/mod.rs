//! The executor for CPUs: computes a [network](crate::network) from its tensors with the [kernels](crate::kernels).
//!
//! A logit has the same bits however sequences are split into calls, batches and threads.

mod adapters;
mod altup;
mod attention;
mod batch;
mod causal_conv;
mod classifier;
mod decoder;
mod dense_and_experts;
mod ffn;
mod kv;
mod laurel;
mod layer;
mod linear;
mod mixer;
mod moe;
mod norm;
mod prediction;
mod recurrence;
mod rope;
mod rows;
mod run;
mod saved;
mod selective_scan;
mod sequence;
mod weights;

pub use adapters::{Adapters, LowRank};
pub use attention::{AttentionPart, AttentionSpec, Selected, attention};
pub use causal_conv::CausalConv;
pub use decoder::Decoder;
pub use kv::{CacheType, KvCache, KvSpec, KvType, OutOfPages, PagePool};
pub use linear::Linear;
pub use norm::Norm;
pub use prediction::{DraftText, Prediction};
pub use recurrence::{RecurrenceInput, RecurrenceSpec, recurrence};
pub use run::{Inputs, Observer, Run};
pub use saved::SavedError;
pub use sequence::{Part, RollbackPoint, Rows, Sequence, SequenceOptions};
pub use weights::Weights;
