//! The graph: latent attention with a rotary embedding of neighbours, SiLU, experts after the dense layers.

use super::Latent;
use crate::arch::graph::{experts, gated, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, FeedForward, Gating, LatentMixer, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let latent = Latent::new(h)?;
    let mut rope = rope(h, weights, RopeStyle::Pairs)?;
    let mut scale = 1.0 / ((latent.plain + latent.rope) as f32).sqrt();
    // The factor that YaRN would give to the rotated elements is given to the scores, where the checkpoint says so.
    if h.has(keys::ROPE_SCALING_YARN_LOG_MULTIPLIER) && h.str(keys::ROPE_SCALING_TYPE)? == Some("yarn") {
        let slope = h.f32(keys::ROPE_SCALING_YARN_LOG_MULTIPLIER)?;
        let magnitude = 1.0 + slope * h.f32_or(keys::ROPE_SCALING_FACTOR, 1.0)?.max(1.0).ln();
        scale *= magnitude * magnitude;
        rope.magnitude = 1.0;
    }
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let routed =
        if dense < h.block_count { experts(h, Activation::Silu, Gating::Softmax, false)? } else { FeedForward::None };
    let layers = (0..h.block_count).map(|i| {
        let mixer = LatentMixer {
            heads: h.head_count[i],
            kv_rank: latent.rank,
            plain_dim: latent.plain,
            rope_dim: latent.rope,
            v_dim: latent.value,
            scale,
            rope: rope.clone(),
        };
        layer(Mixer::Latent(mixer), if i < dense { gated(Activation::Silu) } else { routed.clone() })
    });
    Ok(model(h, NormKind::Rms, layers.collect()))
}
