//! `config.json` to keys.

use crate::arch::{Config, Error, Keys, keys as key};

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.count(key::VOCAB_SIZE, config.required_count(&["vocab_size"])?);
    keys.count(key::ROPE_DIMENSION_COUNT, config.head_length()?);
    // The reference leaves Mistral's window out, and so has other numbers beyond it.
    if config.class() != "LlamaForCausalLM" {
        keys.sliding_window(config)?;
    }
    Ok(())
}
