//! The graph: layer norms, rotary embedding of halves, SiLU; without a second norm both parts share the first.

use crate::arch::forward::{attention, block, gated, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::kernels::Activation;
use crate::nn::{BlockNorms, Mixer, ModelSpec, NormKind, RopeStyle, Weights, Wiring};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    // What tensors there are says it, and old files say another thing.
    h.bool_or(keys::USE_PARALLEL_RESIDUAL, true)?;
    let blocks = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.qk_norm = NormKind::Layer;
        let mut block = block(Mixer::Attention(mixer), gated(Activation::Silu));
        if !weights.has(&format!("blk.{i}.ffn_norm.weight")) {
            block.wiring = Wiring::Parallel;
            block.norms = BlockNorms { feed_forward_in: BlockNorms::PRE.mixer_in, ..BlockNorms::PRE };
        }
        block
    });
    Ok(model(h, NormKind::Layer, blocks.collect()))
}
