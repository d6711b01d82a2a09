//! Gemma 1, 2 and 3: norms stored as an offset from one, embeddings scaled, GELU gates; 2 and 3 also norm after each
//! part and let most blocks see a window alone. EmbeddingGemma is Gemma 3 with attention to both sides.

mod config;
mod graph;
mod tensors;

use super::TokenKey;
use super::family::Family;
use super::settings::Setting;

/// GELU with the hyperbolic tangent, which early configurations call `gelu`; files have no output matrix.
const SETTINGS: &[Setting] = &[
    ("hidden_act", r#"["gelu_pytorch_tanh", "gelu_new", "gelu"]"#),
    ("hidden_activation", r#"["gelu_pytorch_tanh", "gelu_new"]"#),
    ("tie_word_embeddings", "[true]"),
];

/// Gemma 1.
pub(super) static GEMMA: Family = Family {
    keys: config::keys,
    token_keys: |_| vec![TokenKey::Id("eot", 107), TokenKey::SpacePrefix(false)],
    settings: SETTINGS,
    ..Family::new("gemma", &["GemmaForCausalLM"], |h| Ok(tensors::rules(h, tensors::Norms::Before)), graph::gemma)
};

/// Gemma 2.
pub(super) static GEMMA2: Family = Family {
    keys: config::keys2,
    token_keys: |_| vec![TokenKey::SpacePrefix(false)],
    settings: SETTINGS,
    ..Family::new("gemma2", &["Gemma2ForCausalLM"], |h| Ok(tensors::rules(h, tensors::Norms::Around)), graph::gemma2)
};

/// Gemma 3, the text part of its multimodal checkpoints too.
pub(super) static GEMMA3: Family = Family {
    keys: config::keys3,
    token_keys: |_| vec![TokenKey::SpacePrefix(false)],
    settings: SETTINGS,
    ..Family::new(
        "gemma3",
        &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
        |h| Ok(tensors::rules(h, tensors::Norms::AroundAndHeads)),
        graph::gemma3,
    )
};

/// `EmbeddingGemma`.
pub(super) static GEMMA_EMBEDDING: Family = Family {
    keys: config::embedding_keys,
    token_keys: |_| vec![TokenKey::SpacePrefix(false)],
    settings: SETTINGS,
    ..Family::new("gemma-embedding", &["Gemma3TextModel"], tensors::embedding_rules, graph::embedding)
};
