//! `config.json` to keys.

use serde_json::Value as Json;

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    let heads = i32::try_from(config.required_count(&["num_key_value_heads"])?).unwrap_or(i32::MAX);
    let attention = attention_blocks(config)?;
    keys.integers(key::HEAD_COUNT_KV, attention.into_iter().map(|attends| if attends { heads } else { 0 }));
    keys.count(key::VOCAB_SIZE, config.required_count(&["vocab_size"])?);
    keys.count(key::SHORTCONV_L_CACHE, config.required_count(&["conv_L_cache"])?);
    keys.count(key::FEED_FORWARD_LENGTH, feed_forward_length(config)?);
    Ok(())
}

pub(super) fn moe_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    let heads = i32::try_from(config.required_count(&["num_key_value_heads"])?).unwrap_or(i32::MAX);
    let attention = attention_blocks(config)?;
    keys.integers(key::HEAD_COUNT_KV, attention.into_iter().map(|attends| if attends { heads } else { 0 }));
    keys.count(key::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["moe_intermediate_size"])?);
    keys.count(key::LEADING_DENSE_BLOCK_COUNT, config.required_count(&["num_dense_layers"])?);
    keys.count(key::EXPERT_GATING_FUNC, 2);
    keys.count(key::VOCAB_SIZE, config.required_count(&["vocab_size"])?);
    keys.count(key::SHORTCONV_L_CACHE, config.required_count(&["conv_L_cache"])?);
    Ok(())
}

/// Which blocks attend: by their types, or by a list of numbers.
fn attention_blocks(config: &Config) -> Result<Vec<bool>, Error> {
    let count = config.block_count()?;
    if let Some(types) = config.layer_types() {
        if types.len() != count {
            return Err(config.bad("layer_types", "conv or full_attention for each block"));
        }
        return Ok(types.into_iter().map(|ty| ty != "conv").collect());
    }
    let numbers = config.get("full_attn_idxs").and_then(Json::as_array);
    let numbers = numbers.ok_or_else(|| Error::MissingSetting { name: "layer_types or full_attn_idxs".into() })?;
    Ok((0..count).map(|i| numbers.iter().any(|n| n.as_u64() == Some(i as u64))).collect())
}

/// The hidden length, which may be stated before it is cut to two thirds and rounded up.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a length, rounded down"
)]
fn feed_forward_length(config: &Config) -> Result<usize, Error> {
    let length = config.required_count(&["block_ff_dim", "intermediate_size"])?;
    if !config.flag("block_auto_adjust_ff_dim") {
        return Ok(length);
    }
    let factor = config.number(&["block_ffn_dim_multiplier"])?.unwrap_or(1.0).clamp(0.0, 64.0);
    let multiple = config.count(&["block_multiple_of"])?.unwrap_or(1).max(1);
    let length = (factor * (2 * length / 3) as f64) as usize;
    Ok(length.div_ceil(multiple) * multiple)
}
