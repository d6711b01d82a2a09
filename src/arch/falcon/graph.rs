//! The graph: layer norms (a second one for attention in some models), rotary embedding of halves, GELU.

use super::GELU;
use crate::arch::graph::{attention, gelu, layer, model, plain, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{LayerNorms, Mixer, ModelSpec, NormKind, RopeStyle, Tensors, Wiring};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    if !matches!(h.str(keys::TENSOR_DATA_LAYOUT)?, None | Some("jploski")) {
        return Err(h.bad_key(keys::TENSOR_DATA_LAYOUT, "jploski"));
    }
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = layer(Mixer::Attention(mixer), plain(activation));
        block.wiring = Wiring::Parallel;
        let two = weights.has(&format!("blk.{i}.attn_norm_2.weight"));
        let mixer_in = Some(if two { "attn_norm_2" } else { "attn_norm" });
        block.norms = LayerNorms { mixer_in, feed_forward_in: Some("attn_norm"), ..LayerNorms::PRE };
        block
    });
    model(h, NormKind::Layer, layers.collect())
}
