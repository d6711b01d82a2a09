//! The graph: the usual one, the second norm under its other name.

use crate::arch::{Error, Hparams, usual};
use crate::network::{LayerNorms, ModelSpec, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let mut model = usual::spec(h, weights, RopeStyle::Halves)?;
    model.layers.iter_mut().for_each(|block| block.norms = LayerNorms::PRE_POST_NAMED);
    Ok(model)
}
