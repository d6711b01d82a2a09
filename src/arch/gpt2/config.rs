//! `config.json` to keys.

use super::GELU;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(
        config,
        &[
            key::BLOCK_COUNT,
            key::CONTEXT_LENGTH,
            key::EMBEDDING_LENGTH,
            key::FEED_FORWARD_LENGTH,
            key::HEAD_COUNT,
            key::LAYER_NORM_EPSILON,
        ],
    )?;
    keys.file_type();
    keys.unusual_gelu(config, "activation_function", GELU)
}
