//! The graph: the usual one; queries grow by steps of the context that the model was first trained on.

use crate::arch::graph::{factor, original_context_length, rope_scaling_factor};
use crate::arch::{Error, Hparams, keys, usual};
use crate::network::{LengthScale, ModelSpec, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let length_scale = match factor(h, keys::TEMPERATURE_SCALE)? {
        Some(beta) => Some(LengthScale { beta, length: original_context_length(h)?, offset: 0 }),
        None => None,
    };
    // YaRN's magnitude, over the one that the whole head has been trained with.
    let yarn = h.str(keys::ROPE_SCALING_TYPE)? == Some("yarn");
    let multiplier = factor(h, keys::ROPE_SCALING_YARN_LOG_MULTIPLIER)?.filter(|_| yarn);
    let log_growth = rope_scaling_factor(h)?.max(1.0).ln();
    let magnitude = |multiplier: f32| 1.0 + 0.1 * multiplier * log_growth;
    usual::spec_with(h, weights, RopeStyle::Pairs, |_, mixer| {
        mixer.length_scale = length_scale;
        if let (Some(multiplier), Some(rope)) = (multiplier, &mut mixer.rope) {
            rope.magnitude = magnitude(1.0) / magnitude(multiplier);
        }
    })
}
