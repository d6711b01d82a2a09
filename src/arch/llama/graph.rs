//! The graph: norm before each part, rotary embedding of neighbours, SiLU.

use crate::arch::graph::{attention, experts, gated, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, Gating, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Pairs)?;
    let feed_forward = if h.count_or(keys::EXPERT_COUNT, 0)? == 0 {
        gated(Activation::Silu)
    } else {
        experts(h, Activation::Silu, Gating::Softmax, true)?
    };
    let window = h.count_or(keys::SLIDING_WINDOW, 0)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = (window > 0).then_some(window);
        layer(Mixer::Attention(mixer), feed_forward.clone())
    });
    model(h, NormKind::Rms, layers.collect())
}
