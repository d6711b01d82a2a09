//! The graph: norm before each part, rotary embedding of halves, experts with SiLU.

use super::QwenMoe;
use crate::arch::graph::{attention, experts, layer, model, rope};
use crate::arch::{Error, Hparams};
use crate::network::{Activation, Gating, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(family: QwenMoe, h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let feed_forward = experts(h, Activation::Silu, Gating::Softmax, family == QwenMoe::Qwen3)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = attention(h, i, Some(rope.clone()));
        layer(Mixer::Attention(mixer), feed_forward.clone())
    });
    model(h, NormKind::Rms, layers.collect())
}
