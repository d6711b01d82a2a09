//! `ModernBERT`: an encoder with norms before each part, rotary positions of two bases, gated feed-forward parts, and
//! attention that sees a window on both sides in most layers.

mod config;
mod graph;
mod tensors;

use super::TokenKey;
use super::family::Family;

/// Every so many layers one sees the whole text, the first among them, where a file says nothing else.
const PERIOD: usize = 3;

/// The family.
pub(super) static MODERN_BERT: Family = Family {
    keys: config::keys,
    settings: &[
        ("classifier_activation", r#"["gelu"]"#),
        ("position_embedding_type", r#"["absolute", "sans_pos"]"#),
        ("rope_type", r#"["default"]"#),
    ],
    token_keys: |_| ["bos", "eos", "sep"].map(|kind| TokenKey::First(kind, true)).into(),
    ..Family::new(
        "modern-bert",
        &["ModernBertModel", "ModernBertForSequenceClassification"],
        tensors::rules,
        graph::spec,
    )
};
