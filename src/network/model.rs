//! A whole decoder-only transformer: sizes, embeddings, final norm, logits.

use super::{LayerSpec, NormSpec};

/// A whole model.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Length of the residual stream.
    pub embedding_length: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The norms of the residual stream.
    pub norm: NormSpec,
    /// Factor of the token embeddings.
    pub embedding_scale: f32,
    /// Factor of the logits.
    pub logit_scale: f32,
    /// Logits are squashed to this range: `cap * tanh(logit / cap)`.
    pub logit_softcap: Option<f32>,
    /// The final norm's tensor, without `.weight`.
    pub output_norm: &'static str,
    /// A second embedding for every layer, where the family has one.
    pub layer_inputs: Option<LayerInputs>,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
}

/// Per-layer token embeddings (Gemma's per-layer inputs).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerInputs {
    /// Elements a layer and token.
    pub length: usize,
}
