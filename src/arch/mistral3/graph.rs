//! The graph: the usual one; queries grow by steps of the context that the model was first trained on.

use crate::arch::graph::factor;
use crate::arch::{Error, Hparams, keys, usual};
use crate::network::{LengthScale, ModelSpec, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let length_scale = match factor(h, keys::TEMPERATURE_SCALE)? {
        Some(beta) => Some(LengthScale { beta, length: h.positive(keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH)? }),
        None => None,
    };
    // YaRN's magnitude, over the one that the whole head has been trained with.
    let multiplier = factor(h, keys::ROPE_SCALING_YARN_LOG_MULTIPLIER)?;
    let log_growth = h.f32_or(keys::ROPE_SCALING_FACTOR, 1.0)?.max(1.0).ln();
    let magnitude = |multiplier: f32| 1.0 + 0.1 * multiplier * log_growth;
    usual::spec_with(h, weights, RopeStyle::Pairs, |_, mixer| {
        mixer.length_scale = length_scale;
        if let (Some(multiplier), Some(rope)) = (multiplier, &mut mixer.rope) {
            rope.magnitude = magnitude(1.0) / magnitude(multiplier);
        }
    })
}
