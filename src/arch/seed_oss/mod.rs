//! Seed-OSS: the usual model with halves for pairs, biases, and another name for the second norm.

mod graph;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static SEED_OSS: Family =
    Family::new("seed_oss", &["SeedOssForCausalLM"], |h| Ok(tensors::rules(h)), graph::spec);
