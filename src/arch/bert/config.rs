//! `config.json` to keys.

use super::GELU;
use crate::arch::{Config, Error, Keys, keys as key};

/// Epsilon of DistilBERT's norms, which no setting says.
const DISTILBERT_EPSILON: f64 = 1e-12;

pub(super) fn keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let distilled = config.class() == "DistilBertModel";
    if distilled {
        keys.float(key::LAYER_NORM_EPSILON, DISTILBERT_EPSILON);
    }
    keys.shared(config)?;
    encoder(config, keys)?;
    keys.unusual_gelu(config, if distilled { "activation" } else { "hidden_act" }, GELU)
}

/// As [`keys`], of checkpoints whose positions count from behind the padding token's id.
pub(super) fn keys_after_padding(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    self::keys(config, keys)?;
    if let Some(padding) = config.count(&["pad_token_id"])? {
        let all = config.required_count(&["max_position_embeddings"])?;
        let usable = all.checked_sub(1 + padding).filter(|&n| n > 0);
        let usable = usable.ok_or_else(|| config.bad("max_position_embeddings", "more than pad_token_id + 1"))?;
        keys.count(key::CONTEXT_LENGTH, usable);
    }
    Ok(())
}

/// What encoders have besides: attention to all of a text, and how its embedding is made.
pub(in crate::arch) fn encoder(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.flag(key::ATTENTION_CAUSAL, false);
    keys.pooling(config)?;
    keys.labels(config)
}
