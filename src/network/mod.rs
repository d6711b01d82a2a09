//! The description of a network as data. An architecture fills it in, and an executor ([`crate::cpu`]) runs it.
//!
//! Nothing here computes or holds weights. Sizes that tensors show (bias or none, tied output or not, query norms) are
//! not repeated here: the executor looks whether the tensor is there. So it is with what is added to the embeddings
//! (`position_embd`, `token_types`) and with their norm (`token_embd_norm`), and with a low-rank map beside the mixer
//! (`laurel_l`), and with linear maps behind the pooling (`dense_2`, `dense_3`).

mod activation;
mod altup;
mod classifier;
mod error;
mod ffn;
mod gate;
mod layer;
mod mixer;
mod model;
mod moe;
mod norm;
mod pooling;
mod rope;
mod tensors;

pub use activation::Activation;
pub use altup::AltUp;
pub use classifier::{Classifier, HeadFunction};
pub use error::Error;
pub use ffn::{Dense, FeedForward};
pub use gate::Gate;
pub use layer::{LayerNorms, LayerSpec, Wiring};
pub use mixer::{
    AttentionMixer, DeltaNetMixer, Indexer, KeySharing, KimiDeltaMixer, LatentMixer, Mamba1Mixer, Mamba2Mixer, Mixer,
    OutputGate, Selection, ShortConvMixer, alibi_slopes,
};
pub use model::{LayerInputs, ModelSpec};
pub use moe::{Experts, Gating, Groups};
pub use norm::{NormKind, NormSpec};
pub use pooling::Pooling;
pub use rope::{LengthScale, RopeSpec, RopeStyle, Yarn, YarnEdges, frequencies};
pub use tensors::Tensors;
