//! `config.json` to keys.

use serde_json::json;

use super::QwenMoe;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(family: QwenMoe, config: &Config, keys: &mut Keys) -> Result<(), Error> {
    config.expect("decoder_sparse_step", &json!(1), "1: experts in every block")?;
    config.expect("mlp_only_layers", &json!([]), "none: experts in every block")?;
    config.expect("use_sliding_window", &json!(false), "false")?;
    keys.shared(config)?;
    keys.expert_lengths(config)?;
    let usual = family == QwenMoe::Qwen3;
    let normalize = config.get("norm_topk_prob").and_then(serde_json::Value::as_bool).unwrap_or(usual);
    if normalize != usual {
        keys.flag(key::EXPERT_WEIGHTS_NORM, normalize);
    }
    Ok(())
}
