//! The graph: rotary embedding of halves, windows in turn, experts weighed by a softmax over the chosen.

use crate::arch::graph::{attention, experts, layer, model, rope_with_edges, scaled_sliding_rope, windows};
use crate::arch::{Error, Hparams, keys};
use crate::network::{
    Activation, Gating, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle, Tensors, YarnEdges,
};

/// The experts' activation; no key holds these.
const ACTIVATION: Activation = Activation::SwigluOai { alpha: 1.702, limit: 7.0 };

/// Every second block sees everything.
const PERIOD: usize = 2;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let global = rope_with_edges(h, weights, RopeStyle::Halves, YarnEdges::Exact)?;
    let local = scaled_sliding_rope(h, RopeStyle::Halves, YarnEdges::Exact)?;
    let feed_forward = experts(h, ACTIVATION, Gating::SoftmaxOfChosen, false)?;
    h.positive(keys::SLIDING_WINDOW)?;
    let layers = windows(h, Some(PERIOD))?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { &local } else { &global }.clone()));
        mixer.window = window;
        let layer = layer(Mixer::Attention(mixer), feed_forward.clone());
        LayerSpec { norms: LayerNorms::PRE_POST_NAMED, ..layer }
    });
    model(h, NormKind::Rms, layers.collect())
}
