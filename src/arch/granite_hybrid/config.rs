//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

/// The context of models without position embedding.
const UNBOUNDED_CONTEXT: usize = 1 << 20;

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
    let embedding = config.required_count(&["hidden_size"])?;
    keys.count(key::SSM_CONV_KERNEL, config.required_count(&["mamba_d_conv"])?);
    keys.count(key::SSM_STATE_SIZE, config.required_count(&["mamba_d_state"])?);
    keys.count(key::SSM_GROUP_COUNT, config.required_count(&["mamba_n_groups"])?);
    keys.count(key::SSM_INNER_SIZE, config.required_count(&["mamba_expand"])?.saturating_mul(embedding));
    keys.count(key::SSM_TIME_STEP_RANK, config.required_count(&["mamba_n_heads"])?);
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
