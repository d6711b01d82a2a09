//! The graph: layer norms, rotary embedding of halves, SiLU; without a second norm both parts share the first.

use crate::arch::graph::{attention, gated, in_parallel, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    // What tensors there are says it, and old files say another thing.
    h.bool_or(keys::USE_PARALLEL_RESIDUAL, true)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.qk_norm = NormKind::Layer;
        let mut block = layer(Mixer::Attention(mixer), gated(Activation::Silu));
        if !weights.has(&format!("blk.{i}.ffn_norm.weight")) {
            in_parallel(&mut block);
        }
        block
    });
    model(h, NormKind::Layer, layers.collect())
}
