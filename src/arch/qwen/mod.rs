//! Qwen 2, 2.5 and 3, dense: the usual model with halves for pairs, and biases (2) or normed queries and keys (3).

mod config;

pub(super) use config::keys;

use super::family::Family;
use super::usual;
use crate::network::RopeStyle;

/// Qwen 2 and 2.5.
pub(super) static QWEN2: Family = Family {
    keys,
    ..Family::new(
        "qwen2",
        &["Qwen2ForCausalLM"],
        |h| usual::tensors(h, false),
        |h, weights| usual::spec(h, weights, RopeStyle::Halves),
    )
};

/// Qwen 3.
pub(super) static QWEN3: Family = Family {
    keys,
    ..Family::new(
        "qwen3",
        &["Qwen3ForCausalLM"],
        |h| usual::tensors_and(h, false, |block| block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm")),
        |h, weights| usual::spec(h, weights, RopeStyle::Halves),
    )
};
