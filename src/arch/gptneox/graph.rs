//! The graph: layer norms, rotary embedding of halves, GELU.

use super::GELU;
use crate::arch::graph::{attention, gelu, layer, model, plain, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Mixer, ModelSpec, NormKind, RopeStyle, Tensors, Wiring};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let parallel = h.bool(keys::USE_PARALLEL_RESIDUAL)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = layer(Mixer::Attention(mixer), plain(activation));
        block.wiring = if parallel { Wiring::Parallel } else { Wiring::Sequential };
        block
    });
    model(h, NormKind::Layer, layers.collect())
}
