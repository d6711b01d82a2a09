//! The graph: the usual one, with every fourth block unrotated.

use crate::arch::{Error, Hparams, usual};
use crate::network::{ModelSpec, RopeStyle, Tensors};

/// Every fourth block sees no positions.
pub(super) const PERIOD: usize = 4;

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec_with(h, weights, RopeStyle::Pairs, |i, mixer| {
        if (i + 1).is_multiple_of(PERIOD) {
            mixer.rope = None;
        }
    })
}
