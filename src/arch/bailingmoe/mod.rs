//! Ling 1: DeepSeek 1's experts in all layers; queries, keys and values in one.

use super::family::Family;
use super::graph::experts;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, TokenKey, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static BAILINGMOE: Family = Family {
    keys: config_keys,
    settings: &[
        // Files and the reference's engine know experts in all layers alone.
        ("first_k_dense_replace", "[0]"),
        ("multi_gate", "[false]"),
        // Columns of the output matrix would have to be brought to one length.
        ("norm_head", "[false]"),
        ("norm_softmax", "[false]"),
    ],
    token_keys: |_| vec![TokenKey::Pre("bailingmoe")],
    own_code: true,
    ..Family::new("bailingmoe", &["BailingMoeForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let normalized = config.get("norm_topk_prob").and_then(serde_json::Value::as_bool);
    keys.shared(config)?;
    keys.these(config, &[keys::ROPE_DIMENSION_COUNT])?;
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.required_count(&["first_k_dense_replace"])?);
    keys.these(config, &[keys::VOCAB_SIZE])?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["moe_intermediate_size"])?);
    keys.float(keys::EXPERT_WEIGHTS_SCALE, 1.0);
    keys.count(keys::EXPERT_SHARED_COUNT, config.required_count(&["num_shared_experts"])?);
    keys.flag(keys::EXPERT_WEIGHTS_NORM, normalized.ok_or_else(|| config.bad("norm_topk_prob", "true or false"))?);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let shared = length * h.positive(keys::EXPERT_SHARED_COUNT)?;
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.fused_attention(h, i, "attention.query_key_value", true);
        block.linear("attn_output", [h.head_count[i] * h.value_length, d], "attention.dense", &[]);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.routed_experts(d, length, count, "mlp");
        block.shared_expert(d, shared, "mlp.shared_experts");
    }
    rules.add("output_norm.weight", &[d], "model.norm.weight");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.word_embeddings.weight");
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let part = experts(h, Activation::Silu, Gating::Softmax, false)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, |_| part.clone(), |_, _| {})
}
