//! Llama, and what is built like it: Mistral, Mixtral, SmolLM, Vicuna and many others.

mod config;
mod forward;
mod tensors;

use super::{Architecture, Config, Error, Hparams, Keys, TensorRule};
use crate::nn::{ModelSpec, Weights};

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

    fn decoder(&self, hparams: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
        forward::spec(hparams, weights)
    }
}
