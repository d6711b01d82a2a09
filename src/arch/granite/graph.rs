//! The graph: the usual one with factors; logits are divided by theirs.

use crate::arch::graph::factor;
use crate::arch::{Error, Hparams, keys, usual};
use crate::network::{ModelSpec, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let scale = factor(h, keys::ATTENTION_SCALE)?;
    let mut model = usual::spec_with(h, weights, RopeStyle::Pairs, |_, mixer| {
        mixer.scale = scale.unwrap_or(mixer.scale);
    })?;
    let residual_scale = factor(h, keys::RESIDUAL_SCALE)?.unwrap_or(1.0);
    model.layers.iter_mut().for_each(|block| block.residual_scale = residual_scale);
    model.embedding_scale = factor(h, keys::EMBEDDING_SCALE)?.unwrap_or(1.0);
    // A factor of 0 is none.
    model.logit_scale = match h.f32(keys::LOGIT_SCALE)? {
        0.0 => 1.0,
        scale => 1.0 / scale,
    };
    Ok(model)
}
