//! `config.json` to keys.

use serde_json::json;

use super::GELU;
use crate::arch::{Config, Error, Keys, keys as key};

/// What the class assumes, and the first checkpoints leave out.
pub(super) fn complete(config: &mut Config) {
    config.set_defaults(&[
        ("max_position_embeddings", json!(2048)),
        ("multi_query", json!(true)),
        ("parallel_attn", json!(true)),
    ]);
    if let Ok(Some(embedding)) = config.count(&["hidden_size"]) {
        config.set_defaults(&[("ffn_hidden_size", json!(4 * embedding))]);
    }
}

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let (new_decoder, multi_query) = (config.flag("new_decoder_architecture"), config.flag("multi_query"));
    if !config.flag("parallel_attn") && !new_decoder {
        return Err(config.bad("parallel_attn", "true"));
    }
    keys.these(config, &[key::CONTEXT_LENGTH])?;
    // Queries, keys and values lie kind by kind.
    keys.text(key::TENSOR_DATA_LAYOUT, "jploski");
    keys.these(config, &[key::EMBEDDING_LENGTH])?;
    keys.count(key::FEED_FORWARD_LENGTH, config.required_count(&["ffn_hidden_size"])?);
    keys.these(config, &[key::BLOCK_COUNT, key::HEAD_COUNT])?;
    let kv_heads = if new_decoder || !multi_query {
        config.count(&["num_kv_heads", "n_head_kv"])?
    } else {
        Some(config.count(&["n_head_kv"])?.unwrap_or(1))
    };
    let heads = || config.required_count(&["num_attention_heads", "n_head"]);
    keys.count(key::HEAD_COUNT_KV, kv_heads.map_or_else(heads, Ok)?);
    keys.these(config, &[key::LAYER_NORM_EPSILON])?;
    keys.unusual_rope_base(config);
    keys.file_type();
    keys.unusual_gelu(config, "activation", GELU)
}
