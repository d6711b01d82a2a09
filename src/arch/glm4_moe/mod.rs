//! GLM 4.5 to 4.7, Solar Open: partial rotary embedding, dense blocks first, then experts chosen by sigmoids.

mod config;
mod graph;
mod tensors;

use super::{Architecture, Config, Error, Hparams, Keys, TensorRule, TokenKey};
use crate::network::{ModelSpec, Tensors};

/// The family.
pub(super) struct Glm4Moe;

/// The special tokens of GLM 4.5 to 4.7.
pub(super) fn token_keys() -> Vec<TokenKey> {
    vec![
        TokenKey::Text("bos", "[gMASK]"),
        TokenKey::Text("eot", "<|user|>"),
        TokenKey::Text("unk", "<|endoftext|>"),
        TokenKey::Text("eom", "<|observation|>"),
    ]
}

impl Architecture for Glm4Moe {
    fn name(&self) -> &'static str {
        "glm4moe"
    }

    fn classes(&self) -> &'static [&'static str] {
        &["Glm4MoeForCausalLM", "SolarOpenForCausalLM"]
    }

    fn keys(&self, config: &Config, keys: &mut Keys) -> Result<(), Error> {
        config::keys(config, keys)
    }

    fn predicting_blocks(&self, config: &Config, has: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
        config::predicting_blocks(config, has)
    }

    fn token_keys(&self, config: &Config) -> Vec<TokenKey> {
        if config.class() == "SolarOpenForCausalLM" {
            let kinds = [("eot", "<|endoftext|>"), ("unk", "<unk>"), ("bos", "<|startoftext|>")];
            return kinds.into_iter().map(|(kind, text)| TokenKey::Text(kind, text)).collect();
        }
        token_keys()
    }

    fn tensors(&self, hparams: &Hparams) -> Result<Vec<TensorRule>, Error> {
        tensors::rules(hparams)
    }

    fn decoder(&self, hparams: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
        graph::spec(hparams, weights)
    }
}
