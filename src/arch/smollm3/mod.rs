//! SmolLM 3: the usual model without rotary embedding in every fourth block.

mod config;
mod graph;

use super::family::Family;
use super::usual;

/// The family.
pub(super) static SMOLLM3: Family = Family {
    keys: config::keys,
    ..Family::new("smollm3", &["SmolLM3ForCausalLM"], |h| usual::tensors(h, true), graph::spec)
};
