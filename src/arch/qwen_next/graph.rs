//! The graph: delta nets, gated attention with a rotary embedding of a head's first quarter, SiLU.

use super::{DeltaNets, QwenNext};
use crate::arch::graph::{attention, experts, gated, layer, model, predicting, rope};
use crate::arch::{Error, Hparams};
use crate::network::{
    Activation, DeltaNetMixer, Gating, KeySharing, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle,
    Tensors,
};

pub(super) fn spec(family: QwenNext, h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let nets = DeltaNets::new(h)?;
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let feed_forward = if family.has_experts() {
        experts(h, Activation::Silu, Gating::Softmax, true)?
    } else {
        gated(Activation::Silu)
    };
    let delta_net = DeltaNetMixer {
        heads: nets.heads,
        key_heads: nets.key_heads,
        k_dim: nets.k_dim,
        v_dim: nets.v_dim,
        taps: nets.taps,
        sharing: if family == QwenNext::Qwen3Next { KeySharing::Adjacent } else { KeySharing::Tiled },
    };
    let layer_of = |mixer| LayerSpec { norms: LayerNorms::PRE_POST_NAMED, ..layer(mixer, feed_forward.clone()) };
    let gated_attention = |i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.output_gate = true;
        layer_of(Mixer::Attention(mixer))
    };
    let layers = nets
        .recurrent
        .iter()
        .enumerate()
        .map(|(i, &recurrent)| if recurrent { layer_of(Mixer::DeltaNet(delta_net)) } else { gated_attention(i) });
    let model = model(h, NormKind::Rms, layers.collect())?;
    Ok(predicting(h, model, || gated_attention(h.block_count - 1)))
}
