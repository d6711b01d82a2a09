//! The graph: layer norms, no rotary embedding, GELU.

use super::GELU;
use crate::arch::forward::{attention, block, gelu, model, plain};
use crate::arch::{Error, Hparams};
use crate::nn::{Mixer, ModelSpec, NormKind, Weights};

pub(super) fn spec(h: &Hparams, _weights: &Weights) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let blocks =
        (0..h.block_count).map(|i| block(Mixer::Attention(attention(h, i, None)), plain(activation))).collect();
    Ok(model(h, NormKind::Layer, blocks))
}
