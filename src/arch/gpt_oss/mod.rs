//! gpt-oss: attention with sinks, every second block over a window, experts with a clamped activation.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static GPT_OSS: Family = Family {
    keys: config::keys,
    settings: &[("swiglu_alpha", "[1.702]"), ("swiglu_limit", "[7]"), ("truncate", "[false]")],
    ..Family::new("gpt-oss", &["GptOssForCausalLM"], tensors::rules, graph::spec)
};
