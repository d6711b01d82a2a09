//! BERT and its kin (RoBERTa, XLM-RoBERTa, DistilBERT): encoders whose tokens all see each other, with learned positions
//! and a norm of the residual stream after each part.

mod config;
mod graph;
mod tensors;

use super::family::Family;
use super::settings::Setting;
use super::{Config, TokenKey};
use crate::network::Activation;

pub(super) use config::encoder;
pub(super) use tensors::embeddings;

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluErf;

/// Positions are learned: a checkpoint has their embeddings, however these came about.
const SETTINGS: &[Setting] = &[
    ("is_decoder", "[false]"),
    ("position_embedding_type", r#"["absolute"]"#),
    ("sinusoidal_pos_embds", "[false, true]"),
];

/// BERT and DistilBERT.
pub(super) static BERT: Family = Family {
    keys: config::keys,
    settings: SETTINGS,
    token_keys: token_types,
    ..Family::new(
        "bert",
        &["BertModel", "BertForMaskedLM", "BertForSequenceClassification", "DistilBertModel"],
        |h| tensors::rules(h, 0, tensors::BERT_HEAD),
        graph::spec,
    )
};

/// RoBERTa and XLM-RoBERTa, whose first positions stand for padding and for nothing.
pub(super) static ROBERTA: Family = Family {
    keys: config::keys_after_padding,
    settings: SETTINGS,
    token_keys: token_types,
    ..Family::new(
        "bert",
        &["RobertaModel", "XLMRobertaModel", "RobertaForSequenceClassification", "XLMRobertaForSequenceClassification"],
        |h| tensors::rules(h, tensors::unused_positions(h), tensors::ROBERTA_HEAD),
        graph::spec,
    )
};

/// How many types of tokens there are.
pub(super) fn token_types(config: &Config) -> Vec<TokenKey> {
    let types = config.count(&["type_vocab_size"]).ok().flatten();
    vec![TokenKey::Types(types.unwrap_or(1))]
}
