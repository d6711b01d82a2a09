//! The description of a network as data. An architecture fills it in, and an executor ([`crate::cpu`]) runs it.
//!
//! Nothing here computes or holds weights. What the presence of a tensor shows (biases, a tied output, query norms) is not
//! repeated here: the executor checks whether the tensor exists. This includes learned positions and token types
//! (`position_embd`, `token_types`) and the norm of embeddings (`token_embd_norm`).

mod activation;
mod error;
mod ffn;
mod layer;
mod mixer;
mod model;
mod moe;
mod norm;
mod pooling;
mod rope;
mod tensors;

pub use activation::Activation;
pub use error::Error;
pub use ffn::{Dense, FeedForward, Gate};
pub use layer::{LayerNorms, LayerSpec, Wiring};
pub use mixer::{AttentionMixer, DeltaNetMixer, KeySharing, LatentMixer, Mamba2Mixer, Mixer, ShortConvMixer};
pub use model::{LayerInputs, ModelSpec};
pub use moe::{Experts, Gating, Groups};
pub use norm::{NormKind, NormSpec};
pub use pooling::Pooling;
pub use rope::{LengthScale, RopeSpec, RopeStyle, Yarn, YarnEdges, frequencies};
pub use tensors::Tensors;
