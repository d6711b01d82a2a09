//! The graph: layer norm, both parts in parallel, rotary embedding of neighbours where attention slides, SiLU.

use crate::arch::graph::{attention, gated, in_parallel, layer, model, one_rope_base, rope, windows};
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
    // A factor of 0 is none.
    model.logit_scale = match h.f32(keys::LOGIT_SCALE)? {
        0.0 => 1.0,
        scale => scale,
    };
    Ok(model)
}
