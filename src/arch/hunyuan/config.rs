//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

/// Positions that the rotary embedding with a grown base is good for.
const GROWN_CONTEXT: usize = 256 << 10;

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    if config.rope_type() != "dynamic" {
        return Ok(());
    }
    // `dynamic` means a base that is always grown, by `alpha`.
    let dims = config.head_length()? as f64;
    let alpha = config.rope_number("alpha").unwrap_or(50.0);
    if alpha <= 0.0 || dims <= 2.0 {
        return Err(config.bad("alpha", "more than 0, and heads longer than 2"));
    }
    let base = config.rope_number("rope_theta").unwrap_or(10_000.0);
    keys.float(key::ROPE_FREQ_BASE, base * alpha.powf(dims / (dims - 2.0)));
    keys.text(key::ROPE_SCALING_TYPE, "none");
    keys.float(key::ROPE_SCALING_FACTOR, 1.0);
    keys.count(key::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, GROWN_CONTEXT);
    keys.count(key::CONTEXT_LENGTH, GROWN_CONTEXT);
    Ok(())
}
