//! Nemotron 3 and 4, Minitron: layer norms stored as an offset from one, part of each head rotated, a squared ReLU.

use super::family::Family;
use super::graph::plain;
use super::{Config, Error, Keys, Step, TokenKey, keys, usual};
use crate::network::{Activation, NormKind, RopeStyle};

/// The family.
pub(super) static NEMOTRON: Family = Family {
    keys: config_keys,
    settings: &[("hidden_act", r#"["relu2"]"#), ("rope_type", r#"["default", "linear"]"#)],
    token_keys: |_| vec![TokenKey::Id("pad", 0), TokenKey::Id("unk", 1)],
    ..Family::new(
        "nemotron",
        &["NemotronForCausalLM"],
        |h| usual::tensors_of_layer_norms(h, &[Step::Add(1.0)]),
        |h, weights| {
            let feed_forward = |_| plain(Activation::ReluSquared);
            usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, feed_forward, |_, _| {})
        },
    )
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[keys::VOCAB_SIZE])?;
    let names = ["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"];
    let epsilon = config.number(&names)?;
    keys.float(keys::LAYER_NORM_EPSILON, epsilon.ok_or_else(|| config.bad("norm_eps", "a number"))?);
    keys.count(keys::ROPE_DIMENSION_COUNT, config.rotary_length(0.5)?);
    if config.rope_type() == "default" {
        keys.text(keys::ROPE_SCALING_TYPE, "none");
    }
    Ok(())
}
