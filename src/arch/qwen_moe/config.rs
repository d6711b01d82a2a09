//! `config.json` to keys.

use super::QwenMoe;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(family: QwenMoe, config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.expert_lengths(config)?;
    let usual = family == QwenMoe::Qwen3;
    let normalize = config.flag_or("norm_topk_prob", usual);
    if normalize != usual {
        keys.flag(key::EXPERT_WEIGHTS_NORM, normalize);
    }
    Ok(())
}
