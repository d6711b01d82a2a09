//! Granite 3 and 4, dense: the usual model with a factor for embeddings, scores, residuals and logits.

mod config;
mod graph;

pub(super) use config::keys;
pub(super) use graph::with_factors;

use super::family::Family;
use super::usual;

/// The family.
pub(super) static GRANITE: Family =
    Family { keys, ..Family::new("granite", &["GraniteForCausalLM"], |h| usual::tensors(h, true), graph::spec) };
