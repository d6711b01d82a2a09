//! The parts that decoder-only transformers are made of, and the decoder that joins them by a [`ModelSpec`].

mod attention;
mod block;
mod causal_conv;
mod decoder;
mod dense_and_experts;
mod error;
mod ffn;
mod kv_block;
mod kv_cache;
mod linear;
mod mixer;
mod moe;
mod norm;
mod recurrence;
mod rope;
mod rows;
mod sequence;
mod spec;
mod weights;

pub use attention::{AttentionPart, AttentionSpec, attention};
pub use causal_conv::CausalConv;
pub use decoder::Decoder;
pub use error::Error;
pub use kv_cache::{KvCache, KvSpec, KvType};
pub use linear::Linear;
pub use norm::Norm;
pub use recurrence::{KeySharing, RecurrenceInput, RecurrenceSpec, recurrence};
pub use rope::{LengthScale, RopeSpec, RopeStyle, Yarn, YarnEdges, frequencies};
pub use sequence::{Part, Rows, Sequence, SequenceOptions};
pub use spec::*;
pub use weights::Weights;
