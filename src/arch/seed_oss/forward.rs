//! The graph: the usual one, the second norm under its other name.

use crate::arch::{Error, Hparams, usual};
use crate::nn::{BlockNorms, ModelSpec, RopeStyle, Weights};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let mut model = usual::spec(h, weights, RopeStyle::Halves)?;
    model.blocks.iter_mut().for_each(|block| block.norms = BlockNorms::PRE_POST_NAMED);
    Ok(model)
}
