//! The graph: attention to the whole text, rotary embedding of halves, gated SiLU, norms of the residual stream.

use crate::arch::graph::{attention, gated, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let causal = h.bool_or(keys::ATTENTION_CAUSAL, false)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.causal = causal;
        LayerSpec { norms: LayerNorms::SUMS, ..layer(Mixer::Attention(mixer), gated(Activation::Silu)) }
    });
    Ok(ModelSpec { output_norm: None, logits: false, ..model(h, NormKind::Layer, layers.collect())? })
}
