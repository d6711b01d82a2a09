//! The graph: rotary embedding of halves, windows in turn, experts weighed by a softmax over the chosen.

use crate::arch::graph::{attention, experts, layer, model, rope_with_edges};
use crate::arch::{Error, Hparams, keys};
use crate::network::{
    Activation, Gating, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle, Tensors, YarnEdges,
};

/// The experts' activation; no key holds these.
const ACTIVATION: Activation = Activation::SwigluOai { alpha: 1.702, limit: 7.0 };

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope_with_edges(h, weights, RopeStyle::Halves, YarnEdges::Exact)?;
    let feed_forward = experts(h, ACTIVATION, Gating::SoftmaxOfChosen, false)?;
    let window = h.positive(keys::SLIDING_WINDOW)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = i.is_multiple_of(2).then_some(window);
        let layer = layer(Mixer::Attention(mixer), feed_forward.clone());
        LayerSpec { norms: LayerNorms::PRE_POST_NAMED, ..layer }
    });
    Ok(model(h, NormKind::Rms, layers.collect()))
}
