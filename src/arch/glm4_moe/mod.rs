//! GLM 4.5 to 4.7, Solar Open: partial rotary embedding, dense blocks first, then experts chosen by sigmoids.

mod config;
mod graph;
mod tensors;

pub(super) use config::predicting;

use super::family::Family;
use super::{TokenKey, usual};

const SOLAR_OPEN: &str = "SolarOpenForCausalLM";

/// The family.
pub(super) static GLM4_MOE: Family = Family {
    keys: config::keys,
    predicting_blocks: usual::predicting_blocks,
    token_keys: |config| if config.class() == SOLAR_OPEN { solar_token_keys() } else { token_keys() },
    ..Family::new("glm4moe", &["Glm4MoeForCausalLM", SOLAR_OPEN], tensors::rules, graph::spec)
};

/// The special tokens of GLM 4.5 to 4.7.
pub(super) fn token_keys() -> Vec<TokenKey> {
    vec![
        TokenKey::Text("bos", "[gMASK]"),
        TokenKey::Text("eot", "<|user|>"),
        TokenKey::Text("unk", "<|endoftext|>"),
        TokenKey::Text("eom", "<|observation|>"),
    ]
}

fn solar_token_keys() -> Vec<TokenKey> {
    let kinds = [("eot", "<|endoftext|>"), ("unk", "<unk>"), ("bos", "<|startoftext|>")];
    kinds.into_iter().map(|(kind, text)| TokenKey::Text(kind, text)).collect()
}
