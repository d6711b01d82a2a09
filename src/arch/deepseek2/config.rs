//! `config.json` to keys.

use serde_json::json;

use crate::arch::{Config, Error, Keys, keys as key};

pub(in crate::arch) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    config.expect("rope_interleave", &json!(true), "true")?;
    let heads = config.required_count(&["num_attention_heads"])?;
    config.expect("num_key_value_heads", &json!(heads), "num_attention_heads")?;
    routing(config)?;
    let scale = config.rope_number("mscale_all_dim");
    config.expect_rotary("mscale", scale.unwrap_or(1.0))?;
    keys.shared(config)?;
    // In its absorbed form the attention has one key head, which all query heads share.
    keys.count(key::HEAD_COUNT_KV, 1);
    let experts = config.count(&["n_routed_experts"])?;
    let dense = if experts.is_some() { 0 } else { config.block_count()? };
    keys.count(key::LEADING_DENSE_BLOCK_COUNT, config.leading_dense_blocks()?.unwrap_or(dense));
    keys.count(key::VOCAB_SIZE, config.required_count(&["vocab_size"])?);
    if let Some(rank) = config.count(&["q_lora_rank"])? {
        keys.count(key::Q_LORA_RANK, rank);
    }
    let rank = config.required_count(&["kv_lora_rank"])?;
    let (plain, rope) = (config.required_count(&["qk_nope_head_dim"])?, config.required_count(&["qk_rope_head_dim"])?);
    keys.count(key::KV_LORA_RANK, rank);
    keys.count(key::KEY_LENGTH, rank + rope);
    keys.count(key::VALUE_LENGTH, rank);
    keys.count(key::KEY_LENGTH_MLA, plain + rope);
    keys.count(key::VALUE_LENGTH_MLA, config.required_count(&["v_head_dim"])?);
    let hidden = config.required_count(&["moe_intermediate_size", "intermediate_size"])?;
    keys.count(key::EXPERT_FEED_FORWARD_LENGTH, hidden);
    keys.count(key::EXPERT_SHARED_COUNT, config.count(&["n_shared_experts"])?.unwrap_or(0));
    if let Some(scale) = config.number(&["routed_scaling_factor"])? {
        keys.float(key::EXPERT_WEIGHTS_SCALE, scale);
    }
    if config.flag("norm_topk_prob") {
        keys.flag(key::EXPERT_WEIGHTS_NORM, true);
    }
    keys.count(key::ROPE_DIMENSION_COUNT, rope);
    if let Some(scale) = scale {
        keys.float(key::ROPE_SCALING_YARN_LOG_MULTIPLIER, 0.1 * scale);
    }
    // These have sigmoids even where their configuration does not say so.
    if has_sigmoids(config) && config.get("scoring_func").is_none() {
        keys.count(key::EXPERT_GATING_FUNC, 2);
    }
    Ok(())
}

/// Whether the checkpoint's class weighs experts by sigmoids.
fn has_sigmoids(config: &Config) -> bool {
    !matches!(config.class(), "DeepseekV2ForCausalLM" | "Mistral4ForCausalLM")
}

/// Refuses ways to choose experts that the other settings, which alone are in files, do not say.
fn routing(config: &Config) -> Result<(), Error> {
    let groups = config.count(&["n_group"])?.unwrap_or(1);
    let (known, described) = match (has_sigmoids(config), groups) {
        (true, _) => (&["noaux_tc"][..], "noaux_tc"),
        (_, 0 | 1) => (&["greedy", "group_limited_greedy"][..], "greedy or group_limited_greedy"),
        _ => (&["group_limited_greedy"][..], "group_limited_greedy"),
    };
    // What the classes do; other checkpoints of this kind say it.
    let scores = if has_sigmoids(config) { "sigmoid" } else { "softmax" };
    config.expect("scoring_func", &json!(scores), scores)?;
    match config.text("topk_method") {
        Some(method) if !known.contains(&method) => Err(config.bad("topk_method", described)),
        _ => Ok(()),
    }
}
