//! Mellum 2: Qwen 3's experts, most blocks see a window alone and are rotated by a base of their own.

use super::family::Family;
use super::graph::{SlidingBase, experts, sliding_rope, windows};
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything.
const PERIOD: usize = 4;

/// The family.
pub(super) static MELLUM: Family =
    Family { keys: config_keys, ..Family::new("mellum", &["MellumForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.expert_lengths(config)?;
    if config.leading_dense_blocks()?.unwrap_or(0) > 0 {
        return Err(config.bad("mlp_layer_types", "sparse for each block"));
    }
    if config.get("sliding_window").is_some() {
        keys.sliding_window(config)?;
        keys.flags(keys::SLIDING_WINDOW_PATTERN, config.sliding_blocks(PERIOD)?);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (count, length) = (h.positive(keys::EXPERT_COUNT)?, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?);
    usual::tensors_of(h, false, |block, _| {
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        block.routed_experts(h.embedding_length, length, count, "mlp");
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let windows = windows(h, Some(PERIOD))?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::Same)?;
    let experts = experts(h, Activation::Silu, Gating::Softmax, true)?;
    usual::spec_of(
        h,
        weights,
        NormKind::Rms,
        RopeStyle::Halves,
        |_| experts.clone(),
        |i, mixer| {
            mixer.window = windows[i];
            if windows[i].is_some() {
                mixer.rope = Some(local.clone());
            }
        },
    )
}
