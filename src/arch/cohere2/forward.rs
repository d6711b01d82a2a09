//! The graph: layer norm, both parts in parallel, rotary embedding of neighbours where attention slides, SiLU.

use crate::arch::forward::{attention, block, factor, gated, model, rope, windows};
use crate::arch::{Error, Hparams, keys};
use crate::kernels::Activation;
use crate::nn::{BlockNorms, Mixer, ModelSpec, NormKind, RopeStyle, Weights, Wiring};

/// Every fourth block sees everything.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Pairs)?;
    let blocks = windows(h, Some(PERIOD))?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, window.map(|_| rope.clone()));
        mixer.window = window;
        let mut block = block(Mixer::Attention(mixer), gated(Activation::Silu));
        block.wiring = Wiring::Parallel;
        block.norms = BlockNorms { feed_forward_in: BlockNorms::PRE.mixer_in, ..BlockNorms::PRE };
        block
    });
    let mut model = model(h, NormKind::Layer, blocks.collect());
    model.logit_scale = factor(h, keys::LOGIT_SCALE)?.unwrap_or(1.0);
    Ok(model)
}
