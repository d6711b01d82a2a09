//! `config.json` to keys.

use super::GELU;
use crate::arch::{Config, Error, Keys, keys as key};

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
