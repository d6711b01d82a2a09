//! dots.llm1: normed query and key heads, dense blocks first, then experts chosen by sigmoids with a shared part.

use super::family::Family;
use super::graph::dense_then_experts;
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static DOTS1: Family =
    Family { keys: config_keys, ..Family::new("dots1", &["Dots1ForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    let context = config.count(&["max_position_embeddings"])?;
    keys.expert_lengths(config)?;
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.leading_dense_blocks()?.unwrap_or(0));
    keys.count(keys::EXPERT_SHARED_COUNT, config.required_count(&["n_shared_experts"])?);
    keys.float(keys::EXPERT_WEIGHTS_SCALE, config.number(&["routed_scaling_factor"])?.unwrap_or(1.0));
    keys.flag(keys::EXPERT_WEIGHTS_NORM, config.flag("norm_topk_prob"));
    config.expect("scoring_func", &serde_json::json!("sigmoid"), "sigmoid")?;
    keys.count(keys::EXPERT_GATING_FUNC, 2);
    // Blocks slide where their kinds say it, which is refused; without them the window means nothing.
    if config.count(&["sliding_window"])?.is_some_and(|window| context.is_some_and(|context| window < context)) {
        return Err(config.bad("sliding_window", "null, or the context's length or more"));
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let shared = h.count(keys::EXPERT_SHARED_COUNT)?;
    usual::tensors_of(h, false, |block, i| {
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        if i >= dense {
            return block.corrected_experts(h, shared);
        }
        block.gated_ffn(h.embedding_length, h.feed_forward_length[i], "mlp");
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    h.positive(keys::EXPERT_GATING_FUNC)?;
    let parts = dense_then_experts(h, Activation::Silu, Gating::Softmax, false)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, |i| parts[i].clone(), |_, _| {})
}
