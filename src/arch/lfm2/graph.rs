//! The graph: norm before each part, short convolutions, attention with a rotary embedding of halves, SiLU.

use crate::arch::graph::{attention, experts, gated, layer, model, rope, windows};
use crate::arch::{Error, Hparams, keys};
use crate::network::{
    Activation, AttentionMixer, FeedForward, Gating, Mixer, ModelSpec, NormKind, RopeStyle, ShortConvMixer, Tensors,
};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let taps = h.positive(keys::SHORTCONV_L_CACHE)?;
    let dense = super::dense_blocks(h)?;
    let routed =
        if dense < h.block_count { experts(h, Activation::Silu, Gating::Sigmoid, true)? } else { FeedForward::None };
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let layers = windows(h, None)?.into_iter().enumerate().map(|(i, window)| {
        let mixer = match h.head_count_kv[i] {
            0 => Mixer::ShortConv(ShortConvMixer { taps }),
            _ => Mixer::Attention(AttentionMixer { window, ..attention(h, i, Some(rope.clone())) }),
        };
        layer(mixer, if i < dense { gated(Activation::Silu) } else { routed.clone() })
    });
    Ok(ModelSpec { output_norm: Some("token_embd_norm"), ..model(h, NormKind::Rms, layers.collect())? })
}
