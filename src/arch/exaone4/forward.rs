//! The graph: norms after each part, rotary embedding of halves in blocks that slide (in all, where none does), SiLU.

use crate::arch::forward::windows;
use crate::arch::{Error, Hparams, keys, usual};
use crate::nn::{BlockNorms, ModelSpec, RopeStyle, Weights};

/// Every fourth block sees everything, where others slide.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let windows = windows(h, Some(PERIOD))?;
    let some_slide = h.count_or(keys::SLIDING_WINDOW, 0)? > 0;
    let mut model = usual::spec_with(h, weights, RopeStyle::Halves, |i, mixer| {
        mixer.window = windows[i];
        if some_slide && windows[i].is_none() {
            mixer.rope = None;
        }
    })?;
    model.blocks.iter_mut().for_each(|block| block.norms = BlockNorms::POST);
    Ok(model)
}
