//! `config.json` to keys.

use super::graph::{PERIOD2, PERIOD3, usual_scale};
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(
        config,
        &[
            key::CONTEXT_LENGTH,
            key::EMBEDDING_LENGTH,
            key::BLOCK_COUNT,
            key::FEED_FORWARD_LENGTH,
            key::HEAD_COUNT,
            key::HEAD_COUNT_KV,
            key::LAYER_NORM_RMS_EPSILON,
            key::KEY_LENGTH,
            key::VALUE_LENGTH,
        ],
    )?;
    keys.unusual_rope_base(config);
    keys.file_type();
    Ok(())
}

pub(super) fn keys2(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    self::keys(config, keys)?;
    // Without the keys, files mean 50 and 30.
    keys.float(key::ATTN_LOGIT_SOFTCAPPING, config.number(&["attn_logit_softcapping"])?.unwrap_or(0.0));
    keys.float(key::FINAL_LOGIT_SOFTCAPPING, config.number(&["final_logit_softcapping"])?.unwrap_or(0.0));
    keys.sliding_window(config)?;
    keys.unusual_pattern(config, PERIOD2)?;
    unusual_scale(config, keys, 46)
}

pub(super) fn keys3(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    if config.flag("use_bidirectional_attention") {
        return Err(config.bad("use_bidirectional_attention", "false, or the class Gemma3TextModel"));
    }
    keys_of_3(config, keys, 62)
}

/// Those of an embedding model, whose tokens all see each other.
pub(super) fn embedding_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    if !config.flag("use_bidirectional_attention") {
        return Err(config.bad("use_bidirectional_attention", "true"));
    }
    keys_of_3(config, keys, 0)?;
    dense(config, keys)?;
    keys.pooling(config)
}

/// The two linear maps behind the pooling, where the checkpoint has them.
fn dense(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let length = config.required_count(&["hidden_size"])?;
    match *config.dense() {
        [] => Ok(()),
        [second, third] if second.input == length && third.output == length && second.output == third.input => {
            keys.count(key::DENSE_2_FEAT_IN, second.input);
            keys.count(key::DENSE_2_FEAT_OUT, second.output);
            keys.count(key::DENSE_3_FEAT_IN, third.input);
            keys.count(key::DENSE_3_FEAT_OUT, third.output);
            Ok(())
        }
        _ => Err(config.bad("hidden_size", "what the linear maps of modules.json take and give")),
    }
}

fn keys_of_3(config: &Config, keys: &mut Keys, blocks_of_27b: usize) -> Result<(), Error> {
    keys.shared(config)?;
    if let Some(cap) = config.number(&["attn_logit_softcapping"])? {
        keys.float(key::ATTN_LOGIT_SOFTCAPPING, cap);
    }
    if let Some(cap) = config.number(&["final_logit_softcapping"])? {
        keys.float(key::FINAL_LOGIT_SOFTCAPPING, cap);
    }
    keys.sliding_window(config)?;
    keys.unusual_pattern(config, PERIOD3)?;
    unusual_scale(config, keys, blocks_of_27b)
}

/// The factor of the scores, where it is not the one that follows from the other keys.
fn unusual_scale(config: &Config, keys: &mut Keys, blocks_of_27b: usize) -> Result<(), Error> {
    let Some(scalar) = config.number(&["query_pre_attn_scalar"])? else { return Ok(()) };
    if scalar <= 0.0 {
        return Err(config.bad("query_pre_attn_scalar", "more than 0"));
    }
    let heads = config.required_count(&["num_attention_heads"])?.max(1);
    let share = config.required_count(&["hidden_size"])? / heads;
    let usual = usual_scale(config.block_count()?, blocks_of_27b, share, config.head_length()?);
    let scale = scalar.powf(-0.5);
    if (scale - f64::from(usual)).abs() > 1e-6 {
        keys.float(key::ATTENTION_SCALE, scale);
    }
    Ok(())
}
