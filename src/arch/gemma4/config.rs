//! `config.json` to keys.

use serde_json::Value as Json;

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let experts = config.count(&["num_experts"])?.unwrap_or(0);
    if config.flag("enable_moe_block") != (experts > 0) {
        return Err(config.bad("enable_moe_block", "true with num_experts, false without"));
    }
    keys.shared(config)?;
    let sliding = config.sliding_rope().and_then(|rope| rope.get("rope_theta"));
    if config.rope_number("rope_theta").is_none() || sliding.is_none_or(Json::is_null) {
        let name = "rope_theta of full_attention and of sliding_attention";
        return Err(Error::MissingSetting { name: name.into() });
    }
    let blocks = config.block_count()?;
    let types = config.layer_types().filter(|types| types.len() == blocks);
    let types = types.ok_or_else(|| Error::MissingSetting { name: "layer_types".into() })?;
    let slides: Vec<bool> = types.iter().map(|&ty| ty == "sliding_attention").collect();
    let full = slides.iter().position(|&slides| !slides);
    // What full attention has of its own stands beside the window's, or under the number of a block.
    let own = |beside: &str, name: &str| {
        let number = full.map(|block| block.to_string());
        let in_block = || config.get("per_layer_config")?.get(number?)?.get(name)?.as_u64();
        config.get(beside).and_then(Json::as_u64).or_else(in_block).and_then(|n| usize::try_from(n).ok())
    };
    let head = config.head_length()?;
    let full_head = own("global_head_dim", "head_dim").unwrap_or(head);
    let shared = config.count(&["num_kv_shared_layers"])?.unwrap_or(0);
    // Without the key, files mean 30.
    keys.float(key::FINAL_LOGIT_SOFTCAPPING, config.number(&["final_logit_softcapping"])?.unwrap_or(0.0));
    keys.count(key::SLIDING_WINDOW, config.required_count(&["sliding_window"])?);
    keys.count(key::SHARED_KV_LAYERS, shared);
    let per_block = config.count(&["hidden_size_per_layer_input"])?.unwrap_or(0);
    keys.count(key::EMBEDDING_LENGTH_PER_LAYER_INPUT, per_block);
    keys.flags(key::SLIDING_WINDOW_PATTERN, slides.iter().copied());
    keys.count(key::KEY_LENGTH, full_head);
    keys.count(key::VALUE_LENGTH, full_head);
    keys.count(key::KEY_LENGTH_SWA, head);
    keys.count(key::VALUE_LENGTH_SWA, head);
    if let Some(length) = config.count(&["expert_intermediate_size", "moe_intermediate_size"])? {
        keys.count(key::EXPERT_FEED_FORWARD_LENGTH, length);
    }
    let integer = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    if config.flag("use_double_wide_mlp") {
        let hidden = config.required_count(&["intermediate_size"])?;
        let own = blocks.saturating_sub(shared);
        let lengths = (0..blocks).map(|i| integer(if i < own { hidden } else { hidden.saturating_mul(2) }));
        keys.integers(key::FEED_FORWARD_LENGTH, lengths);
    }
    if let Some(full) = own("num_global_key_value_heads", "num_key_value_heads") {
        let heads = config.required_count(&["num_key_value_heads"])?;
        keys.integers(key::HEAD_COUNT_KV, slides.iter().map(|&slides| integer(if slides { heads } else { full })));
    }
    keys.count(key::ROPE_DIMENSION_COUNT, full_head);
    keys.count(key::ROPE_DIMENSION_COUNT_SWA, head);
    Ok(())
}
