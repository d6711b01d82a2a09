//! DeepSeek 1 with experts: dense layers first, then routed experts and those that all tokens share.

use super::family::Family;
use super::graph::dense_then_experts;
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static DEEPSEEK: Family = Family {
    keys: config_keys,
    // The weights of the chosen experts stay as the softmax over all has them.
    settings: &[("norm_topk_prob", "[false]"), ("rope_type", r#"["default"]"#), ("scoring_func", r#"["softmax"]"#)],
    own_code: true,
    ..Family::new("deepseek", &["DeepseekForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let length = config.required_count(&["moe_intermediate_size"])?;
    keys.shared(config)?;
    keys.these(config, &[keys::ROPE_DIMENSION_COUNT])?;
    keys.text(keys::ROPE_SCALING_TYPE, "none");
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.required_count(&["first_k_dense_replace"])?);
    keys.these(config, &[keys::VOCAB_SIZE])?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
    keys.float(keys::EXPERT_WEIGHTS_SCALE, 1.0);
    keys.count(keys::EXPERT_SHARED_COUNT, config.required_count(&["n_shared_experts"])?);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    usual::tensors_of(h, true, |block, i| {
        let d = h.embedding_length;
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            return Ok(());
        }
        let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
        block.routed_experts(d, length, h.positive(keys::EXPERT_COUNT)?, "mlp");
        block.shared_expert(d, length * h.positive(keys::EXPERT_SHARED_COUNT)?, "mlp.shared_experts");
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let parts = dense_then_experts(h, Activation::Silu, Gating::Softmax, false)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, |i| parts[i].clone(), |_, _| {})
}
