//! The graph: layer norms (a second one for attention in some models), rotary embedding of halves, GELU.

use super::GELU;
use crate::arch::forward::{attention, block, gelu, model, plain, rope};
use crate::arch::{Error, Hparams, keys};
use crate::nn::{BlockNorms, Mixer, ModelSpec, NormKind, RopeStyle, Weights, Wiring};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    if !matches!(h.str(keys::TENSOR_DATA_LAYOUT)?, None | Some("jploski")) {
        return Err(h.bad_key(keys::TENSOR_DATA_LAYOUT, "jploski"));
    }
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let blocks = (0..h.block_count).map(|i| {
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = block(Mixer::Attention(mixer), plain(activation));
        block.wiring = Wiring::Parallel;
        let two = weights.has(&format!("blk.{i}.attn_norm_2.weight"));
        let mixer_in = Some(if two { "attn_norm_2" } else { "attn_norm" });
        block.norms = BlockNorms { mixer_in, feed_forward_in: Some("attn_norm"), ..BlockNorms::PRE };
        block
    });
    Ok(model(h, NormKind::Layer, blocks.collect()))
}
