//! LFM 2: short convolutions, and attention in some blocks.

mod config;
mod graph;
mod tensors;

use super::settings::Setting;
use super::{Architecture, Config, Error, Hparams, Keys, TensorRule};
use crate::network::{ModelSpec, Tensors};

/// The family.
pub(super) struct Lfm2;

impl Architecture for Lfm2 {
    fn name(&self) -> &'static str {
        "lfm2"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["Lfm2ForCausalLM", "LFM2ForCausalLM", "Lfm2VlForConditionalGeneration"]
    }

    fn settings(&self) -> &'static [Setting] {
        &[("layer_types", r#"["conv", "full_attention"]"#)]
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
