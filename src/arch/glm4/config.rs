//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.rotary_length(0.5)?);
    Ok(())
}
