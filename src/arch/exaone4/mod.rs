//! EXAONE 4: norms after each part alone, normed query and key heads; in the large models most blocks slide, and only
//! these rotate.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static EXAONE4: Family =
    Family { keys: config::keys, ..Family::new("exaone4", &["Exaone4ForCausalLM"], tensors::rules, graph::spec) };
