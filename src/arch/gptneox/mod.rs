//! GPT-NeoX, Pythia and their like: both parts of a block in parallel, each behind a layer norm of its own; part of
//! each head rotated.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use crate::network::Activation;

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluErf;

/// The family.
pub(super) static GPTNEOX: Family = Family {
    keys: config::keys,
    ..Family::new("gptneox", &["GPTNeoXForCausalLM"], |h| Ok(tensors::rules(h)), graph::spec)
};
