//! EXAONE MoE (K-EXAONE): normed query and key heads, most blocks slide and only these rotate; dense blocks first, then
//! experts chosen by sigmoids with a shared part.

use super::family::Family;
use super::graph::{dense_then_experts, one_rope_base, windows};
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything.
const PERIOD: usize = 4;

/// The family.
pub(super) static EXAONE_MOE: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default"]"#)],
    ..Family::new("exaone-moe", &["ExaoneMoEForCausalLM", "ExaoneMoeForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[keys::VOCAB_SIZE])?;
    if config.layer_types().is_none() {
        return Err(Error::MissingSetting { name: "layer_types".into() });
    }
    keys.count(keys::SLIDING_WINDOW, config.required_count(&["sliding_window"])?);
    keys.flags(keys::SLIDING_WINDOW_PATTERN, config.sliding_blocks(PERIOD)?);
    let length = config.required_count(&["moe_intermediate_size"])?;
    let shared = config.required_count(&["num_shared_experts"])?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
    keys.count(keys::EXPERT_SHARED_COUNT, shared);
    keys.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length.saturating_mul(shared));
    keys.float(keys::EXPERT_WEIGHTS_SCALE, config.number(&["routed_scaling_factor"])?.unwrap_or(1.0));
    keys.flag(keys::EXPERT_WEIGHTS_NORM, config.flag_or("norm_topk_prob", true));
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.leading_dense_blocks()?.unwrap_or(0));
    keys.count(keys::NEXTN_PREDICT_LAYERS, 0);
    keys.text(keys::ROPE_SCALING_TYPE, "none");
    config.expect("scoring_func", &serde_json::json!("sigmoid"), "sigmoid")?;
    keys.count(keys::EXPERT_GATING_FUNC, 2);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let shared = length * h.count_or(keys::EXPERT_SHARED_COUNT, 1)?;
    let shared = h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, shared)?;
    usual::tensors_of(h, false, |block, i| {
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            return Ok(());
        }
        block.routed_experts(d, length, count, "mlp");
        block.tensor("exp_probs_b.bias", &[count], "mlp.e_score_correction_bias").optional();
        if shared > 0 {
            block.shared_expert(d, shared, "mlp.shared_experts");
        }
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    h.positive(keys::SLIDING_WINDOW)?;
    let windows = windows(h, Some(PERIOD))?;
    h.positive(keys::EXPERT_GATING_FUNC)?;
    let parts = dense_then_experts(h, Activation::Silu, Gating::Sigmoid, false)?;
    usual::spec_of(
        h,
        weights,
        NormKind::Rms,
        RopeStyle::Halves,
        |i| parts[i].clone(),
        |i, mixer| {
            mixer.window = windows[i];
            if windows[i].is_none() {
                mixer.rope = None;
            }
        },
    )
}
