//! The graph: layer norms, rotary embedding of halves, GELU.

use crate::arch::forward::{attention, block, model, plain, rope};
use crate::arch::{Error, Hparams, keys};
use crate::kernels::Activation;
use crate::nn::{Mixer, ModelSpec, NormKind, RopeStyle, Weights, Wiring};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let parallel = h.bool_or(keys::USE_PARALLEL_RESIDUAL, true)?;
    let blocks = (0..h.block_count).map(|i| {
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = block(Mixer::Attention(mixer), plain(Activation::GeluErf));
        block.wiring = if parallel { Wiring::Parallel } else { Wiring::Sequential };
        block
    });
    Ok(model(h, NormKind::Layer, blocks.collect()))
}
