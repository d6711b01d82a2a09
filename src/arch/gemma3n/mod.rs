//! Gemma 3n, its text part: several residual streams (alternating updates), a low-rank map beside attention, a token
//! embedding for every layer, few gates in early layers, keys and values shared by late ones.

mod config;
mod graph;
mod tensors;

use super::TokenKey;
use super::family::Family;

/// The family.
pub(super) static GEMMA3N: Family = Family {
    keys: config::keys,
    settings: &[
        ("altup_correct_scale", "[true]"),
        ("hidden_activation", r#"["gelu_pytorch_tanh", "gelu_new"]"#),
        ("layer_types", r#"["sliding_attention", "full_attention"]"#),
        ("rope_type", r#"["default"]"#),
        ("tie_word_embeddings", "[true]"),
    ],
    token_keys: |_| vec![TokenKey::SpacePrefix(false)],
    ..Family::new("gemma3n", &["Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"], tensors::rules, graph::spec)
};
