//! Qwen 2, 2.5 and 3, dense: the usual model with halves for pairs, and biases (2) or normed queries and keys (3).

mod config;

pub(super) use config::keys;

use std::ops::Range;

use super::family::Family;
use super::graph::{classifier, scores};
use super::{Error, Hparams, Rules, Step, TensorRule, keys as key, usual};
use crate::gguf::{Value, keys as file_keys};
use crate::network::{Classifier, HeadFunction, ModelSpec, Pooling, RopeStyle, Tensors};

/// Qwen 2 and 2.5.
pub(super) static QWEN2: Family = Family {
    keys,
    ..Family::new(
        "qwen2",
        &["Qwen2ForCausalLM"],
        |h| usual::tensors(h, false),
        |h, weights| usual::spec(h, weights, RopeStyle::Halves),
    )
};

/// Qwen 3.
pub(super) static QWEN3: Family = Family { keys, ..Family::new("qwen3", &["Qwen3ForCausalLM"], tensors3, spec3) };

fn tensors3(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let mut rules = usual::tensors_and(h, false, |block| block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm"))?;
    if h.has(key::CLASSIFIER_OUTPUT_LABELS) {
        rules.retain(|rule| rule.name != "output.weight");
        rules.extend(head(h)?);
    }
    Ok(rules)
}

/// A reranker's classification head: the rows of the output matrix whose tokens are its labels.
fn head(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let texts = |name: &str| match h.metadata().get(name) {
        Some(Value::Array(list)) => list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let tokens: Vec<String> = texts(file_keys::TOKENIZER_TOKENS);
    let labels: Vec<String> = texts(&format!("qwen3.{}", key::CLASSIFIER_OUTPUT_LABELS));
    let row = |label: &String| tokens.iter().position(|token| token == label).map(|row| row..row + 1);
    let ranges: Option<Vec<Range<usize>>> = labels.iter().map(row).collect();
    let steps: Vec<Step> = ranges.into_iter().map(|ranges| Step::RowsOfEach { of: h.vocab_size, ranges }).collect();
    let mut rules = Rules::with_blocks("");
    let rule = rules.add("cls.output.weight", &[h.embedding_length, scores(h)?], "lm_head.weight");
    rule.optional().steps(&steps).or("model.embed_tokens.weight").steps(&steps);
    Ok(rules.finish())
}

/// A reranker's file has rows of its output matrix as a classification head: the share of "yes" in the answer to whether
/// a document is what is looked for.
fn spec3(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let model = usual::spec(h, weights, RopeStyle::Halves)?;
    let classifier = classifier(h, weights, Pooling::Last, HeadFunction::Tanh)?;
    let classifier = classifier.map(|head| Classifier { softmax: true, ..head });
    Ok(ModelSpec { logits: classifier.is_none(), classifier, ..model })
}
