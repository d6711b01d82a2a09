//! ERNIE 4.5 with experts: dense blocks first, then experts weighed by a softmax whose choice a bias corrects, with a
//! shared part.

use super::family::Family;
use super::graph::{experts, gated};
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, FeedForward, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static ERNIE4_5_MOE: Family = Family {
    keys: config_keys,
    settings: &[("moe_norm_min", "[1e-12]")],
    ..Family::new("ernie4_5-moe", &["Ernie4_5_MoeForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(keys::EXPERT_COUNT, config.required_count(&["moe_num_experts"])?);
    keys.count(keys::EXPERT_USED_COUNT, config.required_count(&["moe_k"])?);
    keys.count(keys::INTERLEAVE_MOE_LAYER_STEP, config.required_count(&["moe_layer_interval"])?);
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.required_count(&["moe_layer_start_index"])?);
    let last = config.block_count()? - 1;
    if let Some(end) = config.get("moe_layer_end_index").filter(|end| end.as_i64() != Some(-1))
        && end.as_u64().is_none_or(|end| end < last as u64)
    {
        return Err(config.bad("moe_layer_end_index", "the last block, or -1"));
    }
    let length = config.required_count(&["moe_intermediate_size"])?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
    if let Some(shared) = config.count(&["moe_num_shared_experts"])?.filter(|&count| count > 0) {
        keys.count(keys::EXPERT_SHARED_COUNT, shared);
        keys.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length.saturating_mul(shared));
    }
    Ok(())
}

/// Which blocks have experts.
fn with_experts(h: &Hparams) -> Result<Vec<bool>, Error> {
    let (first, step) = (h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?, h.positive(keys::INTERLEAVE_MOE_LAYER_STEP)?);
    Ok((0..h.block_count).map(|i| i >= first && (i + 1).is_multiple_of(step)).collect())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let with_experts = with_experts(h)?;
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let shared = h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)?;
    h.count_or(keys::EXPERT_SHARED_COUNT, 0)?;
    usual::tensors_of(h, false, |block, i| {
        if !with_experts[i] {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            return Ok(());
        }
        block.weight("ffn_gate_inp", &[d, count], "mlp.gate");
        let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
        block.joined_experts(d, length, count, "mlp.experts", ["gate_proj", "up_proj", "down_proj"]);
        let bias = block.tensor("exp_probs_b.bias", &[count, 1], "mlp.moe_statics.e_score_correction_bias");
        bias.stored_as(&[1, count]).optional();
        if shared > 0 {
            block.shared_expert(d, shared, "mlp.shared_experts");
        }
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let with_experts = with_experts(h)?;
    let routed = if with_experts.contains(&true) {
        experts(h, Activation::Silu, Gating::Softmax, true)?
    } else {
        FeedForward::None
    };
    let part = |i: usize| if with_experts[i] { routed.clone() } else { gated(Activation::Silu) };
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, part, |_, _| {})
}
