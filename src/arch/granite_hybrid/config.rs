//! `config.json` to keys.

use crate::arch::usual::UNBOUNDED_CONTEXT;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(key::VOCAB_SIZE, config.required_count(&["vocab_size"])?);
    keys.count(key::ROPE_DIMENSION_COUNT, config.head_length()?);
    let scales = [
        (key::ATTENTION_SCALE, "attention_multiplier"),
        (key::EMBEDDING_SCALE, "embedding_multiplier"),
        (key::RESIDUAL_SCALE, "residual_multiplier"),
        (key::LOGIT_SCALE, "logits_scaling"),
    ];
    for (key, name) in scales {
        if let Some(scale) = config.number(&[name])?.filter(|&scale| scale != 0.0) {
            keys.float(key, scale);
        }
    }
    let shared = config.count(&["shared_intermediate_size"])?.unwrap_or(0);
    if shared > 0 {
        keys.count(key::EXPERT_SHARED_FEED_FORWARD_LENGTH, shared);
    }
    // Without experts, the shared part is the whole.
    if config.count(&["num_local_experts"])?.unwrap_or(0) == 0 {
        keys.count(key::FEED_FORWARD_LENGTH, shared);
    }
    mamba_keys(config, keys)?;
    let types = config.layer_types().ok_or_else(|| Error::MissingSetting { name: "layer_types".into() })?;
    let heads = i32::try_from(config.required_count(&["num_key_value_heads"])?).unwrap_or(i32::MAX);
    let attends = |ty: &str| matches!(ty, "attention" | "full_attention");
    keys.integers(key::HEAD_COUNT_KV, types.into_iter().map(|ty| if attends(ty) { heads } else { 0 }));
    let rope = config.text("position_embedding_type") == Some("rope");
    keys.flag(key::ROPE_SCALING_FINETUNED, rope);
    if !rope {
        keys.count(key::CONTEXT_LENGTH, UNBOUNDED_CONTEXT);
    }
    Ok(())
}

/// Bamba's, which has no factors and rotates.
pub(super) fn bamba_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[key::VOCAB_SIZE])?;
    // The reference brings the halves of whole heads to pairs, so that a part of a head could not be turned.
    let (rotated, head) = (config.rotary_length(0.5)?, config.head_length()?);
    if rotated != head {
        return Err(config.bad("partial_rotary_factor", "1 in rope_parameters: a part of a head cannot be expressed"));
    }
    config.expect("attn_rotary_emb", &serde_json::json!(rotated), "the length of a head")?;
    keys.count(key::ROPE_DIMENSION_COUNT, rotated);
    mamba_keys(config, keys)?;
    let heads = i32::try_from(config.required_count(&["num_key_value_heads"])?).unwrap_or(i32::MAX);
    let indices = config.get("attn_layer_indices").and_then(serde_json::Value::as_array);
    let indices = indices.ok_or_else(|| Error::MissingSetting { name: "attn_layer_indices".into() })?;
    let attends = |i: usize| indices.iter().any(|index| index.as_u64() == Some(i as u64));
    let blocks = config.block_count()?;
    keys.integers(key::HEAD_COUNT_KV, (0..blocks).map(|i| if attends(i) { heads } else { 0 }));
    keys.flag(key::ROPE_SCALING_FINETUNED, true);
    Ok(())
}

/// The sizes of Mamba 2.
fn mamba_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let embedding = config.required_count(&["hidden_size"])?;
    keys.count(key::SSM_CONV_KERNEL, config.required_count(&["mamba_d_conv"])?);
    keys.count(key::SSM_STATE_SIZE, config.required_count(&["mamba_d_state"])?);
    keys.count(key::SSM_GROUP_COUNT, config.required_count(&["mamba_n_groups"])?);
    keys.count(key::SSM_INNER_SIZE, config.required_count(&["mamba_expand"])?.saturating_mul(embedding));
    keys.count(key::SSM_TIME_STEP_RANK, config.required_count(&["mamba_n_heads"])?);
    Ok(())
}
