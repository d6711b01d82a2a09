//! StableLM: layer norms, part of each head rotated; the 12B model has its parts in parallel and normed heads.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static STABLELM: Family = Family {
    keys: config::keys,
    ..Family::new(
        "stablelm",
        &["StableLmForCausalLM", "StableLMEpochForCausalLM"],
        |h| Ok(tensors::rules(h)),
        graph::spec,
    )
};
