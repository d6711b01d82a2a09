//! Falcon: both parts of a block in parallel, behind one layer norm or two; few key-value heads.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use crate::network::Activation;

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluErf;

/// The family.
pub(super) static FALCON: Family = Family {
    keys: config::keys,
    ..Family::new("falcon", &["FalconForCausalLM", "RWForCausalLM"], tensors::rules, graph::spec)
};
