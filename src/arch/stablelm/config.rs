//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(config, &[key::CONTEXT_LENGTH, key::EMBEDDING_LENGTH, key::BLOCK_COUNT, key::FEED_FORWARD_LENGTH])?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.rotary_length(0.25)?);
    keys.these(config, &[key::HEAD_COUNT, key::HEAD_COUNT_KV])?;
    keys.flag(key::USE_PARALLEL_RESIDUAL, config.flag_or("use_parallel_residual", true));
    let epsilon = config.number(&["layer_norm_eps", "norm_eps"])?;
    keys.float(key::LAYER_NORM_EPSILON, epsilon.ok_or_else(|| config.bad("layer_norm_eps", "a number"))?);
    keys.unusual_rope_base(config);
    keys.file_type();
    Ok(())
}
