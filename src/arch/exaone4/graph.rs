//! The graph: norms after each part, rotary embedding of halves in layers that slide (in all, where none does), SiLU.

use crate::arch::graph::windows;
use crate::arch::{Error, Hparams, keys, usual};
use crate::network::{LayerNorms, ModelSpec, RopeStyle, Tensors};

/// Every fourth block sees everything, where others slide.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let windows = windows(h, Some(PERIOD))?;
    let some_slide = h.count_or(keys::SLIDING_WINDOW, 0)? > 0;
    let mut model = usual::spec_with(h, weights, RopeStyle::Halves, |i, mixer| {
        mixer.window = windows[i];
        if some_slide && windows[i].is_none() {
            mixer.rope = None;
        }
    })?;
    model.layers.iter_mut().for_each(|layer| layer.norms = LayerNorms::POST);
    Ok(model)
}
