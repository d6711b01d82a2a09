//! The graph: rotary embedding of halves of a head's first part, SiLU, experts after the dense blocks.

use crate::arch::graph::{attention, experts, gated, layer, model, predicting, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{
    Activation, FeedForward, Gating, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle, Tensors,
};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let routed =
        if dense < h.block_count { experts(h, Activation::Silu, Gating::Sigmoid, false)? } else { FeedForward::None };
    // `like` is the layer whose heads it has.
    let layer_of = |i: usize, like: usize| {
        let mixer = Mixer::Attention(attention(h, like, Some(rope.clone())));
        let layer = layer(mixer, if i < dense { gated(Activation::Silu) } else { routed.clone() });
        LayerSpec { norms: LayerNorms::PRE_POST_NAMED, ..layer }
    };
    let model = model(h, NormKind::Rms, (0..h.block_count).map(|i| layer_of(i, i)).collect())?;
    Ok(predicting(h, model, || layer_of(h.block_count, h.block_count - 1)))
}
