//! GPT-2: learned positions, layer norms, biases everywhere, matrices stored the other way round.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use crate::network::Activation;

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluTanh;

/// The family.
pub(super) static GPT2: Family =
    Family { keys: config::keys, ..Family::new("gpt2", &["GPT2LMHeadModel"], |h| Ok(tensors::rules(h)), graph::spec) };
