//! `config.json` to keys.

use crate::arch::bert::encoder;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    // Published settings state more positions than the model was trained on.
    if let Some(positions) = config.count(&["n_positions"])? {
        let trained = config.count(&["max_trained_positions"])?.unwrap_or(2048);
        keys.count(key::CONTEXT_LENGTH, positions.min(trained));
    }
    encoder(config, keys)
}
