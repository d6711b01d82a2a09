//! Llama, and what is built like it: Mistral, Mixtral, SmolLM, Vicuna and many others.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static LLAMA: Family = Family {
    keys: config::keys,
    ..Family::new(
        "llama",
        &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"],
        tensors::rules,
        graph::spec,
    )
};
