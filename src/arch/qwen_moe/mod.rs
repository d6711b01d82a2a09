//! Qwen 2 MoE and Qwen 3 MoE: attention as in their dense siblings, experts in every block.

mod config;
mod graph;
mod tensors;

use super::{Architecture, Config, Error, Hparams, Keys, TensorRule};
use crate::network::{ModelSpec, Tensors};

/// The two families.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QwenMoe {
    /// Biases of queries, keys and values; a shared part with a gate; weights as the router gives them.
    Qwen2,
    /// Norms of query and key heads; weights made to sum to one.
    Qwen3,
}

impl Architecture for QwenMoe {
    fn name(&self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2moe",
            Self::Qwen3 => "qwen3moe",
        }
    }

    fn classes(&self) -> &'static [&'static str] {
        match self {
            Self::Qwen2 => &["Qwen2MoeForCausalLM"],
            Self::Qwen3 => &["Qwen3MoeForCausalLM"],
        }
    }

    fn keys(&self, config: &Config, keys: &mut Keys) -> Result<(), Error> {
        config::keys(*self, config, keys)
    }

    fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error> {
        tensors::rules(*self, hparams)
    }

    fn decoder(&self, hparams: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
        graph::spec(*self, hparams, weights)
    }
}
