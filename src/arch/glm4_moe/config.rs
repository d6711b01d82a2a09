//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

const NEXTN: &str = "num_nextn_predict_layers";

/// Blocks that predict further tokens, where the checkpoint has them.
pub(super) fn predicting_blocks(config: &Config, has: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
    let (count, first) = (config.count(&[NEXTN])?.unwrap_or(0), config.block_count()?);
    Ok((first..).take(count).take_while(|i| has(&format!("model.layers.{i}.eh_proj.weight"))).count())
}

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.rotary_length(0.5)?);
    keys.expert_lengths(config)?;
    let counts =
        [(key::EXPERT_SHARED_COUNT, "n_shared_experts"), (key::LEADING_DENSE_BLOCK_COUNT, "first_k_dense_replace")];
    for (key, name) in counts {
        if let Some(count) = config.count(&[name])? {
            keys.count(key, count);
        }
    }
    keys.count(key::EXPERT_GATING_FUNC, 2);
    if let Some(scale) = config.number(&["routed_scaling_factor"])? {
        keys.float(key::EXPERT_WEIGHTS_SCALE, scale);
    }
    if let Some(normalize) = config.get("norm_topk_prob").and_then(serde_json::Value::as_bool) {
        keys.flag(key::EXPERT_WEIGHTS_NORM, normalize);
    }
    if let (Some(_), Some(count)) = (config.get(NEXTN), config.predicting_blocks()) {
        keys.count(key::NEXTN_PREDICT_LAYERS, count);
    }
    Ok(())
}
