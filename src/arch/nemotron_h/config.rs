//! `config.json` to keys.

use serde_json::{Value as Json, json};

use super::Kind;
use crate::arch::usual::UNBOUNDED_CONTEXT;
use crate::arch::{Config, Error, Keys, keys as key};

const PATTERN: &str = "hybrid_override_pattern";
const TYPES: &str = "layers_block_type";

pub(super) fn keys(config: &Config, keys: &mut Keys, with_experts: bool) -> Result<(), Error> {
    let kinds = kinds(config)?;
    let wanted = if with_experts { Kind::Experts } else { Kind::Dense };
    if kinds.iter().any(|kind| matches!(kind, Kind::Experts | Kind::Dense) && *kind != wanted) {
        return Err(config.bad(PATTERN, "dense feed-forward parts or experts, not both"));
    }
    let counts = |of: Kind, count: usize| {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        kinds.iter().map(move |kind| if *kind == of { count } else { 0 }).collect::<Vec<_>>()
    };
    let lengths = ["intermediate_size", "moe_intermediate_size"];
    config.count(&lengths[..1])?;
    let hidden = config.required_count(&lengths[usize::from(with_experts)..][..1])?;
    // Nothing depends on positions.
    config.count(&["max_position_embeddings"])?;
    keys.count(key::BLOCK_COUNT, kinds.len());
    keys.count(key::CONTEXT_LENGTH, UNBOUNDED_CONTEXT);
    keys.these(config, &[key::EMBEDDING_LENGTH])?;
    keys.integers(key::FEED_FORWARD_LENGTH, counts(wanted, hidden));
    keys.these(config, &[key::HEAD_COUNT])?;
    keys.integers(key::HEAD_COUNT_KV, counts(Kind::Attention, config.required_count(&["num_key_value_heads"])?));
    keys.these(config, &[key::LAYER_NORM_EPSILON])?;
    if with_experts {
        keys.count(key::EXPERT_COUNT, config.required_count(&["n_routed_experts"])?);
        keys.count(key::EXPERT_USED_COUNT, config.required_count(&["num_experts_per_tok"])?);
        keys.count(key::EXPERT_GROUP_COUNT, config.required_count(&["n_group"])?);
        keys.count(key::EXPERT_GROUP_USED_COUNT, config.required_count(&["topk_group"])?);
    }
    keys.file_type();
    let head = config.required_count(&["head_dim", "attention_head_dim"])?;
    let heads = config.required_count(&["mamba_num_heads"])?;
    keys.these(config, &[key::VOCAB_SIZE])?;
    keys.count(key::ROPE_DIMENSION_COUNT, head);
    keys.count(key::SSM_CONV_KERNEL, config.required_count(&["mamba_d_conv", "conv_kernel"])?);
    keys.count(key::SSM_STATE_SIZE, config.required_count(&["ssm_state_size"])?);
    keys.count(key::SSM_GROUP_COUNT, config.required_count(&["mamba_n_groups", "n_groups"])?);
    keys.count(key::SSM_INNER_SIZE, config.required_count(&["mamba_head_dim"])?.saturating_mul(heads));
    keys.count(key::SSM_TIME_STEP_RANK, heads);
    keys.flag(key::ROPE_SCALING_FINETUNED, false);
    keys.count(key::KEY_LENGTH, head);
    keys.count(key::VALUE_LENGTH, head);
    if with_experts {
        keys.count(key::EXPERT_FEED_FORWARD_LENGTH, hidden);
        let shared = config.required_count(&["moe_shared_expert_intermediate_size"])?;
        keys.count(key::EXPERT_SHARED_FEED_FORWARD_LENGTH, shared);
        keys.count(key::EXPERT_SHARED_COUNT, config.required_count(&["n_shared_experts"])?);
        keys.flag(key::EXPERT_WEIGHTS_NORM, config.flag_or("norm_topk_prob", true));
        let scale = config.number(&["routed_scaling_factor"])?;
        keys.float(key::EXPERT_WEIGHTS_SCALE, scale.unwrap_or(1.0));
    }
    Ok(())
}

/// Whether some blocks have experts.
pub(super) fn has_experts(config: &Config) -> bool {
    kinds(config).is_ok_and(|kinds| kinds.contains(&Kind::Experts))
}

/// What each block is: by a word with a letter each, or by a list, which has two names.
fn kinds(config: &Config) -> Result<Vec<Kind>, Error> {
    let letters = |value: &Json| value.as_str()?.chars().map(Kind::of_letter).collect::<Option<Vec<_>>>();
    let of_name = |name: &Json| Kind::of_name(name.as_str()?);
    let names = |value: &Json| value.as_array()?.iter().map(of_name).collect::<Option<Vec<_>>>();
    let mut found: Option<Vec<Kind>> = None;
    for name in [PATTERN, TYPES, "layer_types"] {
        let Some(value) = config.get(name) else { continue };
        let kinds = if name == PATTERN { letters(value) } else { names(value) };
        let kinds =
            kinds.ok_or_else(|| config.bad(name, "mamba (M), attention (*), mlp (-) or moe (E) for each block"))?;
        if found.as_ref().is_some_and(|found| *found != kinds) {
            return Err(config.bad(name, "what hybrid_override_pattern or layers_block_type says too"));
        }
        found = Some(kinds);
    }
    let kinds = found.ok_or_else(|| Error::MissingSetting { name: format!("{PATTERN} or {TYPES}") })?;
    config.expect("num_hidden_layers", &json!(kinds.len()), "a block for each letter of the pattern")?;
    if kinds.is_empty() || kinds.len() > 4096 {
        return Err(config.bad(PATTERN, "1 to 4096 blocks"));
    }
    Ok(kinds)
}
