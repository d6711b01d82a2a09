//! OLMo 2 and 3: norms after each part alone, queries and keys normed over all heads together; of 3, most blocks see
//! a window alone.

mod config;
mod graph;
mod tensors;

use super::family::Family;

/// Both generations.
pub(super) static OLMO2: Family = Family {
    keys: config::keys,
    ..Family::new("olmo2", &["Olmo2ForCausalLM", "Olmo3ForCausalLM"], |h| Ok(tensors::rules(h)), graph::spec)
};
