//! The graph: norms after each part, rotary embedding of halves (never scaled where attention slides), SiLU.

use crate::arch::forward::{attention, block, gated, model, rope, sliding_rope, windows};
use crate::arch::{Error, Hparams};
use crate::kernels::Activation;
use crate::nn::{BlockNorms, Mixer, ModelSpec, NormKind, RopeStyle, Weights};

/// Every fourth block sees everything, where others slide.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let (global, local) = (rope(h, weights, RopeStyle::Halves)?, sliding_rope(h, RopeStyle::Halves)?);
    let blocks = windows(h, Some(PERIOD))?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { &local } else { &global }.clone()));
        mixer.window = window;
        let mut block = block(Mixer::Attention(mixer), gated(Activation::Silu));
        block.norms = BlockNorms::POST;
        block
    });
    Ok(model(h, NormKind::Rms, blocks.collect()))
}
