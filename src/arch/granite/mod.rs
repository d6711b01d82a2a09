//! Granite 3 and 4, dense: the usual model with a factor for embeddings, scores, residuals and logits.

mod config;
mod graph;

use super::family::Family;
use super::usual;

/// The family.
pub(super) static GRANITE: Family = Family {
    keys: config::keys,
    ..Family::new("granite", &["GraniteForCausalLM"], |h| usual::tensors(h, true), graph::spec)
};
