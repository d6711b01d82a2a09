//! The graph: rotary embedding of halves of a head's first part, SiLU, experts after the dense blocks.

use crate::arch::forward::{attention, block, experts, gated, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::kernels::Activation;
use crate::nn::{BlockNorms, BlockSpec, FeedForward, Gating, Mixer, ModelSpec, NormKind, RopeStyle, Weights};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let routed =
        if dense < h.block_count { experts(h, Activation::Silu, Gating::Sigmoid, true)? } else { FeedForward::None };
    let blocks = (0..h.block_count).map(|i| {
        let mixer = Mixer::Attention(attention(h, i, Some(rope.clone())));
        let block = block(mixer, if i < dense { gated(Activation::Silu) } else { routed.clone() });
        BlockSpec { norms: BlockNorms::PRE_POST_NAMED, ..block }
    });
    Ok(model(h, NormKind::Rms, blocks.collect()))
}
