//! The minimum work of a model per token, for comparing times with the limits of the machine.

#![allow(clippy::cast_precision_loss, reason = "sums of work, of which three digits are shown")]

use std::collections::BTreeMap;

use super::Model;
use crate::TensorType;
use crate::arch::{Hparams, keys};
use crate::cpu::KvType;
use crate::gguf::layer_and_part;
use crate::kernels::Limits;

/// Products and bytes of a model's tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// Products of each token of a prompt.
    pub each: Products,
    /// Products for the last token of a prompt alone: the output matrix, and what follows the last keys and values.
    pub last: Products,
    /// Bytes of weights that one token reads.
    pub weight_bytes: f64,
    /// Bytes of the cache per position.
    pub cache_bytes: f64,
}

/// Numbers of products, by the type of weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Products {
    /// Products with weights of each type.
    pub weights: BTreeMap<TensorType, f64>,
    /// Products of attention, for each position that is seen.
    pub attention: f64,
}

/// The facts about a tensor that determine work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight<'a> {
    pub(super) name: &'a str,
    pub(super) ty: TensorType,
    pub(super) rows: u64,
    pub(super) cols: u64,
    pub(super) bytes: u64,
}

impl Products {
    fn add(&mut self, ty: TensorType, products: f64) {
        *self.weights.entry(ty).or_default() += products;
    }

    /// The minimum seconds for `tokens` tokens that see `positions` positions in total.
    fn seconds(&self, tokens: f64, positions: f64, limits: &Limits) -> f64 {
        let weights = self.weights.iter().map(|(&ty, products)| tokens * products / limits.products(ty));
        weights.sum::<f64>() + positions * self.attention / limits.float_products
    }
}

impl Work {
    /// The work of `model` per token, with a cache of type `kv_type`. Of experts, only those that a token uses count.
    #[must_use]
    pub fn of(model: &Model, kv_type: KvType) -> Self {
        let weights = model.tensors().iter().map(|(name, matrix)| Weight {
            name,
            ty: matrix.ty(),
            rows: matrix.rows() as u64,
            cols: matrix.cols() as u64,
            bytes: matrix.bytes().len() as u64,
        });
        let weights: Vec<Weight<'_>> = weights.collect();
        Self::with(model.hparams(), model.decoder().last_stateful_layer(), &weights, kv_type)
    }

    /// The work per token of a model with these weights.
    pub(super) fn with(h: &Hparams, last_stateful_layer: usize, weights: &[Weight<'_>], kv_type: KvType) -> Self {
        let mut work = Self::default();
        let output = OUTPUTS.into_iter().find_map(|name| weights.iter().find(|weight| weight.name == name));
        if let Some(weight) = output {
            work.weight_bytes += weight.bytes as f64;
            work.last.add(weight.ty, (weight.rows * weight.cols) as f64);
        }
        for weight in weights {
            let Some((layer, part)) = layer_and_part(weight.name) else { continue };
            let share = used_share(weight.name, h);
            work.weight_bytes += share * weight.bytes as f64;
            if weight.rows > 1 {
                let once = layer > last_stateful_layer || layer == last_stateful_layer && !feeds_state(part);
                let products = if once { &mut work.last } else { &mut work.each };
                products.add(weight.ty, share * (weight.rows * weight.cols) as f64);
            }
        }
        let length = (h.key_length + h.value_length) as f64;
        let (key_bytes, value_bytes) = (kv_type.keys.number_bytes(), kv_type.values.number_bytes());
        let head_bytes = h.key_length as f64 * key_bytes + h.value_length as f64 * value_bytes;
        for (layer, (&heads, &kv_heads)) in h.head_count.iter().zip(&h.head_count_kv).enumerate() {
            if kv_heads > 0 {
                let products = if layer < last_stateful_layer { &mut work.each } else { &mut work.last };
                products.attention += heads as f64 * length;
                work.cache_bytes += kv_heads as f64 * head_bytes;
            }
        }
        work
    }

    /// The minimum seconds for a prompt of `tokens` after `depth` others: all products at the rates of `limits`.
    #[must_use]
    pub fn prompt_seconds(&self, tokens: usize, depth: usize, limits: &Limits) -> f64 {
        self.each.seconds(tokens as f64, positions_seen(tokens, depth), limits)
            + self.last.seconds(1.0, (depth + tokens) as f64, limits)
    }

    /// The minimum seconds for generating `tokens` after `depth` others: all bytes at the rate of `limits`.
    #[must_use]
    pub fn generation_seconds(&self, tokens: usize, depth: usize, limits: &Limits) -> f64 {
        (tokens as f64 * self.weight_bytes + positions_seen(tokens, depth) * self.cache_bytes) / limits.bytes_read
    }
}

/// Positions that `tokens` tokens see in total, after `depth` others.
fn positions_seen(tokens: usize, depth: usize) -> f64 {
    let n = tokens as f64;
    n * depth as f64 + n * (n + 1.0) / 2.0
}

/// Whether the state of a sequence depends on this tensor of the last block that has a state.
fn feeds_state(part: &str) -> bool {
    let input = ["attn_k", "attn_v", "attn_qkv", "ssm_", "shortconv."].iter().any(|prefix| part.starts_with(prefix));
    input && !part.contains("out")
}

/// Names of the matrix that makes logits, the better first: some models use that of the tokens.
pub(super) const OUTPUTS: [&str; 2] = ["output.weight", "token_embd.weight"];

/// The share of a tensor that a token is multiplied with: of experts, those that it uses.
pub(super) fn used_share(name: &str, h: &Hparams) -> f64 {
    if !name.contains("_exps.") {
        return 1.0;
    }
    let count = |key| h.count_or(key, 0).unwrap_or(0);
    let (all, used) = (count(keys::EXPERT_COUNT), count(keys::EXPERT_USED_COUNT));
    if all == 0 { 1.0 } else { used as f64 / all as f64 }
}
