//! `config.json` to keys.

use serde_json::Value as Json;

use super::graph::PERIOD;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    // Files do not say which blocks rotate.
    let rotates = match config.get("no_rope_layers") {
        None => &[][..],
        Some(list) => list.as_array().ok_or_else(|| config.bad("no_rope_layers", "a list"))?,
    };
    let usual = |(i, flag): (usize, &Json)| flag.as_u64() == Some(u64::from(!(i + 1).is_multiple_of(PERIOD)));
    if !rotates.iter().enumerate().all(usual) {
        return Err(config.bad("no_rope_layers", "0 for every fourth block and 1 for all others"));
    }
    let interval = config.count(&["no_rope_layer_interval"])?;
    if rotates.is_empty() && interval.is_some_and(|n| n != PERIOD) {
        return Err(config.bad("no_rope_layer_interval", "4"));
    }
    keys.shared(config)?;
    keys.these(config, &[key::VOCAB_SIZE])?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.head_length()?);
    Ok(())
}
