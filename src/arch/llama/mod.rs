//! Llama, and what is built like it: Mistral, Mixtral, SmolLM, Vicuna and many others.

mod config;
mod graph;
mod tensors;

use super::{Architecture, Config, Error, Hparams, Keys, TensorRule};
use crate::network::{ModelSpec, Tensors};

/// The family.
pub(super) struct Llama;

impl Architecture for Llama {
    fn name(&self) -> &'static str {
        "llama"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"]
    }

    fn keys(&self, config: &Config, keys: &mut Keys) -> Result<(), Error> {
        config::keys(config, keys)
    }

    fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error> {
        tensors::rules(hparams)
    }

    fn decoder(&self, hparams: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
        graph::spec(hparams, weights)
    }
}
