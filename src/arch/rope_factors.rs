//! The factors that divide the rotary frequencies of a checkpoint, which its file has as a tensor.

use super::{Config, Hparams, keys};

/// The factors that divide rotary frequencies, for the checkpoints that list them or scale as Llama 3 does.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "computed in f32, as the reference does"
)]
pub fn rope_factors(config: &Config, hparams: &Hparams, name: &str) -> Option<Vec<f32>> {
    if config.rope_type() == "proportional" && name == "rope_freqs.weight" {
        return still_pairs(config, hparams);
    }
    match name {
        "rope_factors_long.weight" => return config.rope_list("long_factor"),
        "rope_factors_short.weight" => return config.rope_list("short_factor"),
        _ if config.rope_type().to_lowercase() != "llama3" => return None,
        _ => {}
    }
    let number = |name: &str, default: f64| config.rope_number(name).unwrap_or(default) as f32;
    let (base, factor) = (number("rope_theta", 10_000.0), number("factor", 8.0));
    let (low, high) = (number("low_freq_factor", 1.0), number("high_freq_factor", 4.0));
    let length = number("original_max_position_embeddings", 8192.0);
    let dims = hparams.count_or(keys::ROPE_DIMENSION_COUNT, hparams.key_length).ok()?;
    let factors = (0..dims / 2).map(|i| {
        let frequency = 1.0 / base.powf(2.0 * i as f32 / dims as f32);
        let wavelength = std::f32::consts::TAU / frequency;
        if wavelength < length / high {
            1.0
        } else if wavelength > length / low {
            factor
        } else {
            let smooth = (length / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    });
    Some(factors.collect())
}

/// Factors under which all but a share of the pairs, the first, stand still.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a length, rounded down"
)]
fn still_pairs(config: &Config, hparams: &Hparams) -> Option<Vec<f32>> {
    let dims = hparams.count_or(keys::ROPE_DIMENSION_COUNT, hparams.key_length).ok()?;
    let share = config.rope_number("partial_rotary_factor").unwrap_or(1.0).clamp(0.0, 1.0);
    let turning = (dims as f64 * share / 2.0) as usize;
    Some((0..dims / 2).map(|i| if i < turning { 1.0 } else { 1e30 }).collect())
}
