//! Nomic's BERT: rotary positions and gated feed-forward parts in BERT's frame.

mod config;
mod graph;
mod tensors;

use super::bert;
use super::family::Family;

/// The family, dense.
pub(super) static NOMIC_BERT: Family = Family {
    keys: config::keys,
    settings: &[
        ("activation_function", r#"["swiglu"]"#),
        ("causal", "[false]"),
        ("moe_every_n_layers", "[0]"),
        ("prenorm", "[false]"),
        ("rotary_emb_fraction", "[1]"),
        ("rotary_emb_interleaved", "[false]"),
        ("rotary_emb_scale_base", "[]"),
        ("rotary_scaling_factor", "[]"),
    ],
    token_keys: bert::token_types,
    ..Family::new("nomic-bert", &["NomicBertModel"], tensors::rules, graph::spec)
};
