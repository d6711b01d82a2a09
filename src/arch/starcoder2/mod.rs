//! StarCoder 2: layer norms, biases everywhere, a feed-forward part without gate.

mod config;
mod forward;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static STARCODER2: Family = Family {
    keys: config::keys,
    ..Family::new("starcoder2", &["Starcoder2ForCausalLM"], |h| Ok(tensors::rules(h)), forward::spec)
};
