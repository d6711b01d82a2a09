//! Encoders, and decoders whose tokens all see each other: models of embeddings and of scores.

use serde_json::Value as Json;

use super::Origin::{Gelu, Has, Key, KeyOr, Made, RopeOfKinds, Tensor};
use super::{ATTENTION_BIAS, CAPS, Class, LAYERS, MLP_BIAS, NO_KV_HEADS, Rename, SCALAR, Setting, WINDOW, When, class};
use crate::arch::keys;
use crate::export::source::Source;
use crate::gguf::{Value, keys as file_keys};

/// A classification head.
const HEAD: When = When::Tensor("cls.output.weight");

const TYPES: Setting = ("type_vocab_size", Made(types));
const BERT: &[Setting] = &[("hidden_act", Gelu), TYPES, NO_KV_HEADS];
const ROBERTA: &[Setting] = &[("hidden_act", Gelu), TYPES, ("max_position_embeddings", Made(positions)), NO_KV_HEADS];
const LABELS: &[Setting] = &[("id2label", Made(labels)), ("label2id", Made(numbers))];
/// Attention in one matrix, a gate behind it.
const MODERN_BERT: &[Setting] = &[
    ("norm_eps", Key(keys::LAYER_NORM_EPSILON)),
    ("layer_norm_eps", Key(keys::LAYER_NORM_EPSILON)),
    ("hidden_activation", KeyOr(keys::HIDDEN_ACTIVATION, r#""gelu""#)),
    ("local_attention", Key(keys::SLIDING_WINDOW)),
    LAYERS,
    ("global_attn_every_n_layers", Made(period)),
    ("rope_parameters", RopeOfKinds),
    ("classifier_pooling", Made(classifier_pooling)),
    NO_KV_HEADS,
];

/// The bare model, without the prefix of those with an output.
const BARE: Rename = Rename { from: "model.", to: "", but: &[] };
const IN_ROBERTA: Rename = Rename { from: "", to: "roberta.", but: &["classifier."] };

/// Their classes.
pub(super) static CLASSES: &[Class] = &[
    Class {
        when: &[When::Tokenizer("t5"), HEAD],
        rename: IN_ROBERTA,
        ..class("bert", "XLMRobertaForSequenceClassification", &[ROBERTA, LABELS])
    },
    Class { when: &[When::Tokenizer("t5")], ..class("bert", "XLMRobertaModel", &[ROBERTA]) },
    Class {
        when: &[When::Tokenizer("gpt2"), HEAD],
        rename: IN_ROBERTA,
        ..class("bert", "RobertaForSequenceClassification", &[ROBERTA, LABELS])
    },
    Class { when: &[When::Tokenizer("gpt2")], ..class("bert", "RobertaModel", &[ROBERTA]) },
    Class {
        when: &[When::NoTensor("token_types.weight")],
        names: &["_lin.", "ffn.lin", "sa_layer_norm", "output_layer_norm"],
        rename: Rename { from: "layer.", to: "transformer.layer.", but: &[] },
        ..class("bert", "DistilBertModel", &[&[("activation", Gelu), NO_KV_HEADS]])
    },
    Class {
        when: &[HEAD],
        rename: Rename { from: "", to: "bert.", but: &["classifier."] },
        ..class("bert", "BertForSequenceClassification", &[BERT, LABELS])
    },
    class("bert", "BertModel", &[BERT]),
    Class {
        names: &["emb_ln."],
        ..class(
            "nomic-bert",
            "NomicBertModel",
            &[&[
                TYPES,
                NO_KV_HEADS,
                // Of the class with code of its own.
                ("activation_function", super::Origin::Json(r#""swiglu""#)),
                ("n_embd", Key(keys::EMBEDDING_LENGTH)),
                ("n_head", Key(keys::HEAD_COUNT)),
                ("n_inner", Key(keys::FEED_FORWARD_LENGTH)),
                ("n_layer", Key(keys::BLOCK_COUNT)),
                ("n_positions", Key(keys::CONTEXT_LENGTH)),
                ("max_trained_positions", Key(keys::CONTEXT_LENGTH)),
                ("causal", super::Origin::Json("false")),
                ("prenorm", super::Origin::Json("false")),
                ("qkv_proj_bias", Has(&["attn_qkv.bias"])),
                ("mlp_fc1_bias", Has(&["ffn_up.bias"])),
                ("mlp_fc2_bias", Has(&["ffn_down.bias"])),
                ("rotary_emb_fraction", super::Origin::Json("1.0")),
                ("rotary_emb_base", super::Origin::RotaryBase),
                ("rotary_emb_interleaved", super::Origin::Json("false")),
                ("layer_norm_epsilon", Key(keys::LAYER_NORM_EPSILON)),
            ]],
        )
    },
    Class {
        when: &[HEAD],
        ..class(
            "modern-bert",
            "ModernBertForSequenceClassification",
            &[MODERN_BERT, LABELS, &[("classifier_bias", Tensor("cls.bias"))]],
        )
    },
    Class { rename: BARE, ..class("modern-bert", "ModernBertModel", &[MODERN_BERT]) },
    Class {
        rename: BARE,
        ..class(
            "eurobert",
            "EuroBertModel",
            &[&[ATTENTION_BIAS, MLP_BIAS, ("classifier_pooling", Made(classifier_pooling))]],
        )
    },
    Class {
        rename: BARE,
        ..class(
            "gemma-embedding",
            "Gemma3TextModel",
            &[
                CAPS,
                &[
                    ATTENTION_BIAS,
                    WINDOW,
                    LAYERS,
                    ("rope_parameters", RopeOfKinds),
                    SCALAR,
                    ("use_bidirectional_attention", super::Origin::Json("true")),
                ],
            ],
        )
    },
];

/// Types of tokens.
fn types(source: &Source<'_>) -> Option<Json> {
    let count = source.header.metadata.get(file_keys::TOKENIZER_TOKEN_TYPE_COUNT).and_then(Value::as_u64);
    Some(count.unwrap_or(1).into())
}

/// Positions of a checkpoint, of which those up to the padding token's id are never used.
fn positions(source: &Source<'_>) -> Option<Json> {
    let padding = source.header.metadata.get(file_keys::TOKENIZER_PADDING_ID).and_then(Value::as_u64);
    Some((source.header.hparams.context_length as u64 + padding.map_or(0, |id| id + 1)).into())
}

fn label_texts(source: &Source<'_>) -> Option<Vec<String>> {
    let list = source.header.hparams.get(keys::CLASSIFIER_OUTPUT_LABELS)?.as_array()?;
    Some(list.strs()?.map(|text| text.into_owned()).collect())
}

/// The labels of scores, by their numbers.
fn labels(source: &Source<'_>) -> Option<Json> {
    let texts = label_texts(source)?.into_iter().enumerate();
    Some(Json::Object(texts.map(|(i, text)| (i.to_string(), text.into())).collect()))
}

/// The numbers of scores, by their labels.
fn numbers(source: &Source<'_>) -> Option<Json> {
    let texts = label_texts(source)?.into_iter().enumerate();
    Some(Json::Object(texts.map(|(i, text)| (text, i.into())).collect()))
}

fn classifier_pooling(source: &Source<'_>) -> Option<Json> {
    match source.header.hparams.get(keys::CLASSIFIER_POOLING_TYPE).and_then(Value::as_u64) {
        Some(1) => Some("mean".into()),
        Some(2) => Some("cls".into()),
        _ => None,
    }
}

/// Every so many layers one sees the whole text, the first among them.
fn period(source: &Source<'_>) -> Option<Json> {
    let full: Vec<bool> = source.attention().map(|mixer| mixer.window.is_none()).collect();
    let next = full.iter().skip(1).position(|&full| full).map_or(full.len(), |after| after + 1);
    Some(next.into())
}
