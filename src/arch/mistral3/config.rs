//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[key::VOCAB_SIZE])?;
    keys.count(key::ROPE_DIMENSION_COUNT, config.head_length()?);
    match config.text("model_type") {
        Some("mistral") => Ok(()),
        Some("ministral3") => {
            config.expect_rotary("mscale", 1.0)?;
            if config.rope_type() != "yarn" {
                return Err(config.bad("rope_type", "yarn"));
            }
            for (key, name) in [
                (key::ROPE_SCALING_YARN_LOG_MULTIPLIER, "mscale_all_dim"),
                (key::TEMPERATURE_SCALE, "llama_4_scaling_beta"),
            ] {
                let number = config.rope_number(name);
                keys.float(key, number.ok_or_else(|| config.bad(name, "a number"))?);
            }
            Ok(())
        }
        _ => Err(config.bad("model_type", "mistral or ministral3")),
    }
}
