//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
pub(in crate::arch) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let context = config.required_count(&["max_position_embeddings"])?;
    let original = original_length(config)?;
    keys.these(config, &[key::CONTEXT_LENGTH])?;
    keys.count(key::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, original);
    keys.these(
        config,
        &[
            key::EMBEDDING_LENGTH,
            key::FEED_FORWARD_LENGTH,
            key::BLOCK_COUNT,
            key::HEAD_COUNT,
            key::HEAD_COUNT_KV,
            key::LAYER_NORM_RMS_EPSILON,
            key::ROPE_DIMENSION_COUNT,
        ],
    )?;
    keys.float(key::ROPE_FREQ_BASE, config.rope_number("rope_theta").unwrap_or(10_000.0));
    keys.file_type();
    keys.count(key::SLIDING_WINDOW, config.count(&["sliding_window"])?.unwrap_or(0));
    if !matches!(config.rope_type(), "default" | "su" | "longrope" | "yarn") {
        return Err(config.bad("rope_type", "default, su, longrope or yarn"));
    }
    let pairs = config.rotary_length(1.0)? / 2;
    for name in ["long_factor", "short_factor"] {
        let fits = |list: Vec<f32>| list.len() == pairs && list.iter().all(|&factor| factor > 0.0);
        if config.rope_type() != "default" && !config.rope_list(name).is_some_and(fits) {
            return Err(config.bad(name, "a positive factor for each pair of a head"));
        }
    }
    let growth = (context as f64 / original as f64).max(1.0);
    match config.rope_type() {
        "su" | "longrope" => {
            let usual = (1.0 + growth.ln() / (original as f64).ln()).sqrt();
            keys.float_ahead(key::ROPE_SCALING_ATTN_FACTOR, config.rope_number("attention_factor").unwrap_or(usual));
        }
        "yarn" => {
            keys.float_ahead(key::ROPE_SCALING_ATTN_FACTOR, 0.1 * growth.ln() + 1.0);
        }
        _ => {}
    }
    Ok(())
}

fn original_length(config: &Config) -> Result<usize, Error> {
    let name = "original_max_position_embeddings";
    let length = config.rotary(name).and_then(serde_json::Value::as_u64);
    // The logarithm of one is nothing to divide by.
    let length = length.filter(|n| (2..=1 << 27).contains(n)).and_then(|n| usize::try_from(n).ok());
    length.ok_or_else(|| config.bad(name, "a count of positions"))
}
