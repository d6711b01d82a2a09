//! `config.json` to keys.

use crate::arch::{Config, Error, Keys};

pub(in crate::arch) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    // A window of some layers has no key, and no released model: only those that set it without effect are taken.
    if config.flag("use_sliding_window") {
        let window = config.count(&["sliding_window"])?.unwrap_or(usize::MAX);
        let from = config.count(&["max_window_layers"])?.unwrap_or(0);
        let context = config.required_count(&["max_position_embeddings"])?;
        if window < context && from < config.block_count()? {
            return Err(config.bad("sliding_window", "null: windows of some layers cannot be expressed"));
        }
    }
    keys.shared(config)?;
    keys.pooling(config)
}
