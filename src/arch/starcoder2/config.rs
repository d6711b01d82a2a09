//! `config.json` to keys.

use super::GELU;
use crate::arch::{Config, Error, Keys};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    // The reference leaves the window out, and so has other numbers beyond it.
    keys.sliding_window(config)?;
    keys.unusual_gelu(config, "hidden_act", GELU)
}
