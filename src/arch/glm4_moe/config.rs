//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

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
    predicting(config, keys);
    Ok(())
}

/// How many blocks predict further tokens, where the checkpoint says it.
pub(in crate::arch) fn predicting(config: &Config, keys: &mut Keys) {
    if let (Some(_), Some(count)) = (config.get("num_nextn_predict_layers"), config.predicting_blocks()) {
        keys.count(key::NEXTN_PREDICT_LAYERS, count);
    }
}
