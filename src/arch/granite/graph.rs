//! The graph: the usual one with factors; logits are divided by theirs.

use crate::arch::graph::factor;
use crate::arch::{Error, Hparams, keys, usual};
use crate::network::{Mixer, ModelSpec, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    with_factors(h, usual::spec(h, weights, RopeStyle::Pairs)?)
}

/// The model with Granite's factors.
///
/// # Errors
/// When one is no number, or that of the logits is missing.
pub(in crate::arch) fn with_factors(h: &Hparams, mut model: ModelSpec) -> Result<ModelSpec, Error> {
    let scale = factor(h, keys::ATTENTION_SCALE)?;
    let residual_scale = factor(h, keys::RESIDUAL_SCALE)?.unwrap_or(1.0);
    for block in &mut model.layers {
        block.residual_scale = residual_scale;
        if let Mixer::Attention(mixer) = &mut block.mixer {
            mixer.scale = scale.unwrap_or(mixer.scale);
        }
    }
    model.embedding_scale = factor(h, keys::EMBEDDING_SCALE)?.unwrap_or(1.0);
    // A factor of 0 is none.
    model.logit_scale = match h.f32(keys::LOGIT_SCALE)? {
        0.0 => 1.0,
        scale => 1.0 / scale,
    };
    Ok(model)
}
