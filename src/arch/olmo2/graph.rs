//! The graph: norms after each part, rotary embedding of halves (never scaled where attention slides), SiLU.

use crate::arch::graph::{SlidingBase, attention, gated, layer, model, one_rope_base, rope, sliding_rope, windows};
use crate::arch::{Error, Hparams};
use crate::network::{Activation, LayerNorms, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything, where others slide.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    let global = rope(h, weights, RopeStyle::Halves)?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::Same)?;
    let layers = windows(h, Some(PERIOD))?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { &local } else { &global }.clone()));
        mixer.window = window;
        let mut block = layer(Mixer::Attention(mixer), gated(Activation::Silu));
        block.norms = LayerNorms::POST;
        block
    });
    model(h, NormKind::Rms, layers.collect())
}
