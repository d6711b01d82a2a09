//! The graph: norm before each part, rotary embedding of halves, experts with SiLU.

use super::QwenMoe;
use crate::arch::forward::{attention, block, experts, model, rope};
use crate::arch::{Error, Hparams};
use crate::kernels::Activation;
use crate::nn::{Gating, Mixer, ModelSpec, NormKind, RopeStyle, Weights};

pub(super) fn spec(family: QwenMoe, h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let feed_forward = experts(h, Activation::Silu, Gating::Softmax, family == QwenMoe::Qwen3)?;
    let blocks = (0..h.block_count).map(|i| {
        let mixer = attention(h, i, Some(rope.clone()));
        block(Mixer::Attention(mixer), feed_forward.clone())
    });
    Ok(model(h, NormKind::Rms, blocks.collect()))
}
