//! The graph: norm before each part, rotary embedding of neighbours, SiLU.

use crate::arch::graph::{attention, gated, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, Experts, FeedForward, Gating, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Pairs)?;
    let experts = h.count_or(keys::EXPERT_COUNT, 0)?;
    let feed_forward = if experts == 0 {
        gated(Activation::Silu)
    } else {
        FeedForward::Experts(Experts {
            count: experts,
            used: h.positive(keys::EXPERT_USED_COUNT)?,
            activation: Activation::Silu,
            gating: Gating::Softmax,
            normalize: true,
            weight_scale: 1.0,
            groups: None,
        })
    };
    let window = h.count_or(keys::SLIDING_WINDOW, 0)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = (window > 0).then_some(window);
        layer(Mixer::Attention(mixer), feed_forward.clone())
    });
    Ok(model(h, NormKind::Rms, layers.collect()))
}
