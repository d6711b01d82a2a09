//! `config.json` to keys.

use super::GELU;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(config, &[key::CONTEXT_LENGTH, key::EMBEDDING_LENGTH, key::BLOCK_COUNT, key::FEED_FORWARD_LENGTH])?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.rotary_length(0.25)?);
    keys.these(config, &[key::HEAD_COUNT])?;
    keys.flag(key::USE_PARALLEL_RESIDUAL, config.flag_or("use_parallel_residual", true));
    keys.these(config, &[key::LAYER_NORM_EPSILON])?;
    keys.unusual_rope_base(config);
    // The reference writes no file type.
    keys.unusual_gelu(config, "hidden_act", GELU)
}
