//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

pub(in crate::arch) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[key::VOCAB_SIZE, key::ROPE_DIMENSION_COUNT])?;
    for (key, name) in [
        (key::ATTENTION_SCALE, "attention_multiplier"),
        (key::EMBEDDING_SCALE, "embedding_multiplier"),
        (key::RESIDUAL_SCALE, "residual_multiplier"),
        (key::LOGIT_SCALE, "logits_scaling"),
    ] {
        if let Some(factor) = config.number(&[name])?.filter(|&factor| factor != 0.0) {
            keys.float(key, factor);
        }
    }
    Ok(())
}
