//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

/// Positions that the rotary embedding with a grown base is good for.
const GROWN_CONTEXT: usize = 256 << 10;

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    grown_base(config, keys, 50.0)
}

/// The keys of experts besides.
pub(super) fn moe_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(key::EXPERT_SHARED_FEED_FORWARD_LENGTH, config.required_count(&["intermediate_size"])?);
    keys.count(key::EXPERT_FEED_FORWARD_LENGTH, config.one_count("moe_intermediate_size")?);
    keys.count(key::EXPERT_USED_COUNT, config.one_count("moe_topk")?);
    let shared = config.one_count("num_shared_expert")?;
    if shared != 1 {
        return Err(config.bad("num_shared_expert", "1"));
    }
    keys.count(key::EXPERT_SHARED_COUNT, shared);
    grown_base(config, keys, 1000.0)
}

/// The rotary base, which some checkpoints state as one to be grown; `usual` is by how much where they do not say it.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
fn grown_base(config: &Config, keys: &mut Keys, usual: f64) -> Result<(), Error> {
    if config.rope_type() != "dynamic" {
        return Ok(());
    }
    // `dynamic` means a base that is always grown, by `alpha`.
    let dims = config.head_length()? as f64;
    let alpha = config.rope_number("alpha").unwrap_or(usual);
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
