//! The graph: layer norm, both parts in parallel, rotary embedding of neighbours where attention slides, SiLU.

use crate::arch::graph::{attention, gated, in_parallel, layer, model, one_rope_base, required_factor, rope, windows};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Pairs)?;
    one_rope_base(h)?;
    h.positive(keys::SLIDING_WINDOW)?;
    let layers = windows(h, Some(PERIOD))?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, window.map(|_| rope.clone()));
        mixer.window = window;
        let mut block = layer(Mixer::Attention(mixer), gated(Activation::Silu));
        in_parallel(&mut block);
        block
    });
    let mut model = model(h, NormKind::Layer, layers.collect())?;
    model.logit_scale = required_factor(h, keys::LOGIT_SCALE)?;
    Ok(model)
}
