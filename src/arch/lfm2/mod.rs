//! LFM 2: short convolutions, and attention in some blocks; dense, or with experts.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use super::{Error, Hparams, keys};

/// Dense.
pub(super) static LFM2: Family = Family {
    keys: config::keys,
    settings: &[("layer_types", r#"["conv", "full_attention"]"#)],
    ..Family::new(
        "lfm2",
        &["Lfm2ForCausalLM", "LFM2ForCausalLM", "Lfm2VlForConditionalGeneration"],
        tensors::rules,
        graph::spec,
    )
};

/// With experts behind a few dense blocks.
pub(super) static LFM2_MOE: Family = Family {
    keys: config::moe_keys,
    settings: &[("layer_types", r#"["conv", "full_attention"]"#), ("use_expert_bias", "[true]")],
    ..Family::new("lfm2moe", &["Lfm2MoeForCausalLM"], tensors::rules, graph::spec)
};

/// How many blocks are dense: the first ones.
fn dense_blocks(h: &Hparams) -> Result<usize, Error> {
    if h.count_or(keys::EXPERT_COUNT, 0)? == 0 {
        Ok(h.block_count)
    } else {
        h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)
    }
}
