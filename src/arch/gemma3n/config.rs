//! `config.json` to keys.

use serde_json::Value as Json;

use super::tensors::LAUREL_RANK;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let blocks = config.block_count()?;
    keys.shared(config)?;
    // Files have a length for each layer, also where all are the same.
    if let Some(length) = config.get("intermediate_size").and_then(Json::as_i64) {
        let length = i32::try_from(length).map_err(|_| config.bad("intermediate_size", "a count"))?;
        keys.integers(key::FEED_FORWARD_LENGTH, vec![length; blocks]);
    }
    if let Some(cap) = config.number(&["final_logit_softcapping"])? {
        keys.float(key::FINAL_LOGIT_SOFTCAPPING, cap);
    }
    keys.count(key::SLIDING_WINDOW, config.required_count(&["sliding_window"])?);
    let streams = config.required_count(&["altup_num_inputs"])?;
    let active = config.required_count(&["altup_active_idx"])?;
    if streams < 2 || active >= streams {
        return Err(config.bad("altup_num_inputs", "at least 2, and more than altup_active_idx"));
    }
    keys.count(key::ALTUP_ACTIVE_IDX, active);
    keys.count(key::ALTUP_NUM_INPUTS, streams);
    let rank = config.required_count(&["laurel_rank"])?;
    if rank != LAUREL_RANK {
        keys.count(key::LAUREL_RANK, rank);
    }
    keys.count(key::EMBEDDING_LENGTH_PER_LAYER_INPUT, config.required_count(&["hidden_size_per_layer_input"])?);
    keys.count(key::SHARED_KV_LAYERS, config.required_count(&["num_kv_shared_layers"])?);
    let name = "activation_sparsity_pattern";
    let shares: Option<Vec<f64>> = match config.get(name) {
        Some(Json::Array(shares)) => shares.iter().map(Json::as_f64).collect(),
        Some(share) => share.as_f64().map(|share| vec![share; blocks]),
        None => None,
    };
    let shares =
        shares.filter(|shares| shares.len() == blocks && shares.iter().all(|share| (0.0..1.0).contains(share)));
    let shares = shares.ok_or_else(|| config.bad(name, "a share from 0 to less than 1 for each block"))?;
    keys.floats(key::ACTIVATION_SPARSITY_SCALE, shares.into_iter().map(deviations));
    let slides = config.layer_types().filter(|types| types.len() == blocks);
    let slides = slides.ok_or_else(|| Error::MissingSetting { name: "layer_types".into() })?;
    keys.flags(key::SLIDING_WINDOW_PATTERN, slides.into_iter().map(|ty| ty == "sliding_attention"));
    Ok(())
}

/// How many standard deviations above their mean so large a share of normally distributed numbers ends.
fn deviations(share: f64) -> f64 {
    if share <= 0.0 {
        return f64::NEG_INFINITY;
    }
    // Newton's method on the distribution's series, from the middle: it is convex on either side.
    let mut z = 0.0_f64;
    for _ in 0..60 {
        let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        let step = (0.5 + density * series(z) - share) / density;
        z -= step.clamp(-1.0, 1.0);
        if step.abs() < 1e-15 {
            break;
        }
    }
    z
}

/// `z + z^3/3 + z^5/(3 5) + ...`: the normal distribution's area from 0 to `z` over its density there.
fn series(z: f64) -> f64 {
    let (mut term, mut sum) = (z, z);
    for odd in 1..500 {
        term *= z * z / f64::from(2 * odd + 1);
        sum += term;
        if term.abs() < 1e-18 * sum.abs() {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::deviations;

    #[test]
    fn shares_end_where_tables_say() {
        for (share, expected) in [(0.5, 0.0), (0.95, 1.644_853_626_951_472_7), (0.1, -1.281_551_565_544_600_4)] {
            assert!((deviations(share) - expected).abs() < 1e-12, "{share}: {}", deviations(share));
        }
        assert!((deviations(0.999_9) - 3.719_016_485_455_709).abs() < 1e-9);
        assert_eq!(deviations(0.0), f64::NEG_INFINITY);
    }
}
