//! Arcee's AFM: llama's model with a feed-forward part without gate, behind a squared ReLU.

use super::family::Family;
use super::graph::plain;
use super::{Config, Error, Hparams, Keys, keys, usual};
use crate::network::{Activation, NormKind, RopeStyle};

/// The family.
pub(super) static ARCEE: Family = Family {
    keys: config_keys,
    settings: &[("hidden_act", r#"["relu2"]"#)],
    ..Family::new(
        "arcee",
        &["ArceeForCausalLM"],
        |h: &Hparams| {
            usual::tensors_of(h, true, |block, i| {
                block.plain_ffn(h.embedding_length, h.feed_forward_length[i], "mlp.up_proj", "mlp.down_proj");
                Ok(())
            })
        },
        |h, weights| {
            let feed_forward = |_| plain(Activation::ReluSquared);
            usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, feed_forward, |_, _| {})
        },
    )
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[keys::VOCAB_SIZE, keys::ROPE_DIMENSION_COUNT])
}
