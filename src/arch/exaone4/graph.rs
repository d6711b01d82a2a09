//! The graph: norms after each part, rotary embedding of halves in blocks that slide (in all, where none does), SiLU.

use crate::arch::graph::{one_rope_base, windows_or};
use crate::arch::{Error, Hparams, usual};
use crate::network::{LayerNorms, ModelSpec, RopeStyle, Tensors};

/// Every fourth block sees everything, where others slide.
pub(super) const PERIOD: usize = 4;

/// The model of 32 billion parameters, whose blocks slide in files that do not say it.
const BLOCKS_OF_32B: usize = 64;
/// Its window.
const WINDOW_OF_32B: usize = 4096;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    let windows = windows_or(h, if h.block_count == BLOCKS_OF_32B { WINDOW_OF_32B } else { 0 }, Some(PERIOD))?;
    let some_slide = windows.iter().any(Option::is_some);
    let mut model = usual::spec_with(h, weights, RopeStyle::Halves, |i, mixer| {
        mixer.window = windows[i];
        if some_slide && windows[i].is_none() {
            mixer.rope = None;
        }
    })?;
    model.layers.iter_mut().for_each(|block| block.norms = LayerNorms::POST);
    Ok(model)
}
