//! `config.json` to keys.

use super::PERIOD;
use crate::arch::bert::encoder;
use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    // Newer checkpoints have one epsilon for all norms, under the name that others have for another kind of norm.
    if let (None, Some(epsilon)) = (config.number(&["layer_norm_eps"])?, config.number(&["norm_eps"])?) {
        keys.float(key::LAYER_NORM_EPSILON, epsilon);
    }
    encoder(config, keys)?;
    keys.count(key::SLIDING_WINDOW, config.required_count(&["local_attention"])?);
    pattern(config, keys)?;
    keys.text(key::ROPE_SCALING_TYPE, "none");
    keys.count(key::VOCAB_SIZE, config.required_count(&["vocab_size"])?);
    match config.text("hidden_activation") {
        Some(name @ ("gelu" | "gelu_pytorch_tanh" | "silu")) => keys.text(key::HIDDEN_ACTIVATION, name),
        Some(_) => return Err(config.bad("hidden_activation", "gelu, gelu_pytorch_tanh or silu")),
        None => {}
    }
    Ok(())
}

/// Which layers see a window alone: a period, of which the first layer sees all, or a list where the layers have another
/// order.
fn pattern(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let stated = config.count(&["global_attn_every_n_layers"])?;
    let period = stated.unwrap_or(PERIOD);
    if period == 0 {
        return Err(config.bad("global_attn_every_n_layers", "at least 1"));
    }
    if config.layer_types().is_some() {
        let slides = config.sliding_blocks(period)?;
        if slides.iter().enumerate().any(|(i, &slides)| slides == i.is_multiple_of(period)) {
            keys.flags(key::SLIDING_WINDOW_PATTERN, slides);
            return Ok(());
        }
    }
    if stated.is_some() || period != PERIOD {
        keys.count(key::SLIDING_WINDOW_PATTERN, period);
    }
    Ok(())
}
