//! Phi 3, 3.5 and 4: llama with halves for pairs and fused projections; two sets of rotary factors for long contexts.

mod config;
mod graph;
mod tensors;

pub(super) use config::keys;

use super::family::Family;

/// The family.
pub(super) static PHI3: Family = Family {
    keys: config::keys,
    settings: &[("rope_type", r#"["default", "longrope", "su", "yarn"]"#)],
    ..Family::new("phi3", &["Phi3ForCausalLM"], tensors::rules, graph::spec)
};
