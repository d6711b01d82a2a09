//! Mistral 3 and Ministral 3: llama's model, whose queries grow with the position in the latter; the text part of
//! multimodal checkpoints.

mod config;
mod graph;

use super::family::Family;
use super::usual;

/// The family.
pub(super) static MISTRAL3: Family = Family {
    keys: config::keys,
    ..Family::new(
        "mistral3",
        &["Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"],
        |h| usual::tensors(h, true),
        graph::spec,
    )
};
