//! Qwen 2 MoE and Qwen 3 MoE: attention as in their dense siblings, experts in every block.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// The two families.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QwenMoe {
    /// Biases of queries, keys and values; a shared part with a gate; weights as the router gives them.
    Qwen2,
    /// Norms of query and key heads; weights made to sum to one.
    Qwen3,
}

/// Qwen 2 with experts.
pub(super) static QWEN2_MOE: Family = Family {
    keys: |config, keys| config::keys(QwenMoe::Qwen2, config, keys),
    ..Family::new(
        "qwen2moe",
        &["Qwen2MoeForCausalLM"],
        |h| tensors::rules(QwenMoe::Qwen2, h),
        |h, weights| graph::spec(QwenMoe::Qwen2, h, weights),
    )
};

/// Qwen 3 with experts.
pub(super) static QWEN3_MOE: Family = Family {
    keys: |config, keys| config::keys(QwenMoe::Qwen3, config, keys),
    ..Family::new(
        "qwen3moe",
        &["Qwen3MoeForCausalLM"],
        |h| tensors::rules(QwenMoe::Qwen3, h),
        |h, weights| graph::spec(QwenMoe::Qwen3, h, weights),
    )
};
