//! StarCoder 2: layer norms, biases everywhere, a feed-forward part without gate.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use crate::network::Activation;

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluTanh;

/// The family.
pub(super) static STARCODER2: Family = Family {
    keys: config::keys,
    settings: &[("activation_function", r#"["gelu", "gelu_pytorch_tanh"]"#), ("norm_type", r#"["layer_norm"]"#)],
    ..Family::new("starcoder2", &["Starcoder2ForCausalLM"], |h| Ok(tensors::rules(h)), graph::spec)
};
