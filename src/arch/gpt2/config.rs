//! `config.json` to keys.

use serde_json::json;

use super::GELU;
use crate::arch::{Config, Error, Keys, keys as key};

/// What the class assumes.
pub(super) fn complete(config: &mut Config) {
    if let Ok(Some(embedding)) = config.count(&["n_embd"]) {
        config.set_defaults(&[("n_inner", json!(4 * embedding))]);
    }
}

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
