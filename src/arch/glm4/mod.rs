//! GLM 4 (0414 and Z1): norms before and after each part, half of each head rotated, gate and up in one.

mod config;
mod graph;
mod tensors;

use super::TokenKey;
use super::family::Family;

/// The family.
pub(super) static GLM4: Family = Family {
    keys: config::keys,
    token_keys: |_| {
        let end = "<|endoftext|>";
        vec![
            TokenKey::Text("eos", end),
            TokenKey::Text("eot", "<|user|>"),
            TokenKey::Text("unk", end),
            TokenKey::Text("bos", end),
        ]
    },
    ..Family::new("glm4", &["Glm4ForCausalLM"], |h| Ok(tensors::rules(h)), graph::spec)
};
