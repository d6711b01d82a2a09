//! The graph: latent attention with a rotary embedding of neighbours, SiLU, experts after the dense blocks.

use super::Latent;
use crate::arch::graph::{experts, factor, gated, layer, model, predicting, rope, rope_scaling_factor};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, Experts, FeedForward, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

pub(in crate::arch) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    spec_with(h, weights, Gating::Softmax)
}

/// The graph, whose experts are weighed by `gating` where the file does not say how.
pub(in crate::arch) fn spec_with(h: &Hparams, weights: &dyn Tensors, gating: Gating) -> Result<ModelSpec, Error> {
    let latent = Latent::new(h)?;
    let mut rope = rope(h, weights, RopeStyle::Pairs)?;
    let mut scale = latent.scale();
    // The factor that YaRN would give to the rotated elements is given to the scores, where the checkpoint says so.
    if let Some(slope) = factor(h, keys::ROPE_SCALING_YARN_LOG_MULTIPLIER)? {
        if h.str(keys::ROPE_SCALING_TYPE)? != Some("yarn") {
            return Err(h.bad_key(keys::ROPE_SCALING_TYPE, "yarn, as there is rope.scaling.yarn_log_multiplier"));
        }
        let magnitude = 1.0 + slope * rope_scaling_factor(h)?.max(1.0).ln();
        scale *= magnitude * magnitude;
        rope.magnitude = 1.0;
    }
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let mut routed =
        if dense < h.block_count { experts(h, Activation::Silu, gating, false)? } else { FeedForward::None };
    // Where a bias corrects the choice, a group is as good as its two best experts, whatever weighs them.
    if let FeedForward::Experts(Experts { groups: Some(groups), .. }) = &mut routed
        && weights.has(&format!("blk.{dense}.exp_probs_b.bias"))
    {
        groups.best = 2;
    }
    // `like` is the layer whose heads it has.
    let layer_of = |i: usize, like: usize| {
        let mixer = latent.mixer(h.head_count[like], scale, Some(&rope));
        layer(mixer, if i < dense { gated(Activation::Silu) } else { routed.clone() })
    };
    let model = model(h, NormKind::Rms, (0..h.block_count).map(|i| layer_of(i, i)).collect())?;
    Ok(predicting(h, model, || layer_of(h.block_count, h.block_count - 1)))
}
