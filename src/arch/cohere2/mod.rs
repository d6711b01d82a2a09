//! Cohere's Command R7B and its like: both parts of a block in parallel behind one norm; blocks that slide rotate,
//! those that see everything do not.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// The family.
pub(super) static COHERE2: Family = Family {
    keys: config::keys,
    settings: &[
        ("position_embedding_type", r#"["rope", "rope_gptj"]"#),
        ("rope_type", r#"["default"]"#),
        ("use_parallel_block", "[true]"),
    ],
    ..Family::new("cohere2", &["Cohere2ForCausalLM"], |h| Ok(tensors::rules(h)), graph::spec)
};
