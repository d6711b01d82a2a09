//! Jais 2: layer norms, biases everywhere, a squared ReLU.

use super::family::Family;
use super::graph::plain;
use super::{Config, Error, Keys, keys, usual};
use crate::network::{Activation, NormKind, RopeStyle};

/// The family.
pub(super) static JAIS2: Family = Family {
    keys: config_keys,
    settings: &[("hidden_act", r#"["relu2"]"#)],
    ..Family::new(
        "jais2",
        &["Jais2ForCausalLM"],
        |h| usual::tensors_of_layer_norms(h, &[]),
        |h, weights| {
            let feed_forward = |_| plain(Activation::ReluSquared);
            usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, feed_forward, |_, _| {})
        },
    )
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.these(config, &[keys::ROPE_DIMENSION_COUNT])
}
