//! gpt-oss: attention with sinks, every second block over a window, experts with a clamped activation.

mod config;
mod graph;
mod tensors;

use super::settings::Setting;
use super::{Architecture, Config, Error, Hparams, Keys, TensorRule};
use crate::network::{ModelSpec, Tensors};

/// The family.
pub(super) struct GptOss;

impl Architecture for GptOss {
    fn name(&self) -> &'static str {
        "gpt-oss"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["GptOssForCausalLM"]
    }

    fn settings(&self) -> &'static [Setting] {
        &[("swiglu_alpha", "[1.702]"), ("swiglu_limit", "[7]"), ("truncate", "[false]")]
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
