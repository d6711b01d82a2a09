//! The graph: norms after each part, rotary embedding of halves (never scaled where attention slides), SiLU.

use crate::arch::graph::{attention, gated, layer, model, rope, sliding_rope, windows};
use crate::arch::{Error, Hparams};
use crate::network::{Activation, LayerNorms, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything, where others slide.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let (global, local) = (rope(h, weights, RopeStyle::Halves)?, sliding_rope(h, RopeStyle::Halves)?);
    let layers = windows(h, Some(PERIOD))?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { &local } else { &global }.clone()));
        mixer.window = window;
        let mut block = layer(Mixer::Attention(mixer), gated(Activation::Silu));
        block.norms = LayerNorms::POST;
        block
    });
    Ok(model(h, NormKind::Rms, layers.collect()))
}
