//! `config.json` to keys.

use serde_json::json;

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let usual: Vec<&str> =
        ["sliding_attention", "full_attention"].into_iter().cycle().take(config.block_count()?).collect();
    config.expect("layer_types", &json!(usual), "a window in every second block, from the first on")?;
    keys.shared(config)?;
    keys.count(key::SLIDING_WINDOW, config.required_count(&["sliding_window"])?);
    keys.count(key::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["intermediate_size"])?);
    Ok(())
}
