//! `config.json` to keys.

use serde_json::Value as Json;

use super::forward::PERIOD;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    // Files do not say which blocks rotate.
    let rotates = config.get("no_rope_layers").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let usual = |(i, flag): (usize, &Json)| flag.as_u64() == Some(u64::from(!(i + 1).is_multiple_of(PERIOD)));
    if !rotates.iter().enumerate().all(usual) {
        return Err(config.bad("no_rope_layers", "0 for every fourth block and 1 for all others"));
    }
    if rotates.is_empty() && config.count(&["no_rope_layer_interval"])?.is_some_and(|n| n != PERIOD) {
        return Err(config.bad("no_rope_layer_interval", "4"));
    }
    if config.flag("use_sliding_window") && config.get("sliding_window").is_some() {
        return Err(config.bad("use_sliding_window", "false"));
    }
    keys.shared(config)?;
    keys.these(config, &[key::VOCAB_SIZE])?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.head_length()?);
    Ok(())
}
