//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    if !matches!(config.text("hidden_act"), None | Some("gelu" | "gelu_new" | "gelu_fast")) {
        return Err(config.bad("hidden_act", "gelu"));
    }
    keys.these(config, &[key::CONTEXT_LENGTH, key::EMBEDDING_LENGTH, key::BLOCK_COUNT, key::FEED_FORWARD_LENGTH])?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.rotary_length(0.25)?);
    keys.these(config, &[key::HEAD_COUNT])?;
    keys.flag(key::USE_PARALLEL_RESIDUAL, config.get("use_parallel_residual").is_none_or(|flag| flag != false));
    keys.these(config, &[key::LAYER_NORM_EPSILON])?;
    keys.unusual_rope_base(config);
    keys.file_type();
    Ok(())
}
