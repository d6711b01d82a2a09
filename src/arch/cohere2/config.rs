//! `config.json` to keys.

use super::graph::PERIOD;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    let scale = config.number(&["logit_scale"])?.ok_or_else(|| config.bad("logit_scale", "a number"))?;
    keys.float(key::LOGIT_SCALE, scale);
    keys.sliding_window(config)?;
    keys.unusual_pattern(config, PERIOD)?;
    keys.these(config, &[key::VOCAB_SIZE, key::ROPE_DIMENSION_COUNT])?;
    keys.text(key::ROPE_SCALING_TYPE, "none");
    Ok(())
}
