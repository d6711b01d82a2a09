//! MiniMax M2: queries and keys normed over all heads together, part of each head rotated, experts chosen by sigmoids.

use super::family::Family;
use super::graph::experts;
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static MINIMAX_M2: Family = Family {
    keys: config_keys,
    settings: &[("use_routing_bias", "[true]"), ("use_qk_norm", "[true]"), ("qk_norm_type", r#"["per_layer"]"#)],
    ..Family::new("minimax-m2", &["MiniMaxM2ForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["intermediate_size"])?);
    // Two settings say it; a class of other code reads the one, transformers the other.
    let (share, length) = (config.rotary_length(1.0)?, config.count(&["rotary_dim"])?);
    if length.is_some_and(|length| length != share) && config.rotary("partial_rotary_factor").is_some() {
        return Err(config.bad("partial_rotary_factor", "rotary_dim over head_dim"));
    }
    keys.count(keys::ROPE_DIMENSION_COUNT, length.unwrap_or(share));
    config.expect("scoring_func", &serde_json::json!("sigmoid"), "sigmoid")?;
    keys.count(keys::EXPERT_GATING_FUNC, 2);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count, hidden) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?, h.expert_length()?);
    usual::tensors_of(h, false, |block, i| {
        block.whole_norms(h, i);
        block.weight("ffn_gate_inp", &[d, count], "block_sparse_moe.gate");
        block.tensor("exp_probs_b.bias", &[count], "block_sparse_moe.e_score_correction_bias");
        block.experts(d, hidden, count, "block_sparse_moe.experts", ["w1", "w3", "w2"]);
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    h.positive(keys::EXPERT_GATING_FUNC)?;
    let experts = experts(h, Activation::Silu, Gating::Softmax, true)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, |_| experts.clone(), |_, _| {})
}
