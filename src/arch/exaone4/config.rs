//! `config.json` to keys.

use super::graph::PERIOD;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[key::VOCAB_SIZE])?;
    if config.get("sliding_window").is_some() {
        keys.sliding_window(config)?;
        keys.flags(key::SLIDING_WINDOW_PATTERN, config.sliding_blocks(PERIOD)?);
    }
    Ok(())
}
