//! What a model has to do for its tokens at the least, so that times can be held against the machine's limits.

#![allow(clippy::cast_precision_loss, reason = "sums of work, of which three digits are shown")]

use crate::TensorType;
use crate::arch::{Hparams, keys};
use crate::kernels::Limits;
use crate::model::Model;
use crate::nn::KvType;

/// Products and bytes of a model's tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Products a token with quantized weights, without the output matrix.
    pub byte_products: f64,
    /// Products a token with weights in bf16, without the output matrix.
    pub bf16_products: f64,
    /// Products a token with other weights, without the output matrix.
    pub float_products: f64,
    /// Products with the output matrix; a prompt needs them once.
    pub output_products: f64,
    /// The type of the output matrix.
    pub output_type: TensorType,
    /// Bytes of weights that one token reads.
    pub weight_bytes: f64,
    /// Products of attention for a token and a position that it sees.
    pub attention_products: f64,
    /// Bytes of the cache for a position.
    pub cache_bytes: f64,
}

impl Work {
    /// The work of `model`'s tokens, with a cache of type `kv_type`. Of a mixture of experts, as many count as a
    /// token uses.
    #[must_use]
    pub fn of(model: &Model, kv_type: KvType) -> Self {
        let h = model.hparams();
        let output = ["output.weight", "token_embd.weight"]
            .into_iter()
            .find_map(|name| model.tensors().iter().find(|(found, _)| found == name));
        let mut work = Self {
            byte_products: 0.0,
            bf16_products: 0.0,
            float_products: 0.0,
            output_products: output.map_or(0.0, |(_, m)| (m.rows() * m.cols()) as f64),
            output_type: output.map_or(TensorType::F32, |(_, m)| m.ty()),
            weight_bytes: output.map_or(0.0, |(_, m)| m.bytes().len() as f64),
            attention_products: 0.0,
            cache_bytes: 0.0,
        };
        for (name, matrix) in model.tensors().iter().filter(|(name, _)| name.starts_with("blk.")) {
            let share = if name.contains("_exps.") { expert_share(h) } else { 1.0 };
            work.weight_bytes += share * matrix.bytes().len() as f64;
            let products = share * (matrix.rows() * matrix.cols()) as f64;
            match matrix.ty() {
                _ if matrix.rows() <= 1 => {}
                TensorType::BF16 => work.bf16_products += products,
                ty if ty.is_quantized() => work.byte_products += products,
                _ => work.float_products += products,
            }
        }
        let number_bytes = match kv_type {
            KvType::F32 => 4.0,
            KvType::F16 => 2.0,
            KvType::Q8_0 => TensorType::Q8_0.row_bytes(32) as f64 / 32.0,
        };
        let length = (h.key_length + h.value_length) as f64;
        for (&heads, &kv_heads) in h.head_count.iter().zip(&h.head_count_kv).filter(|(_, kv)| **kv > 0) {
            work.attention_products += heads as f64 * length;
            work.cache_bytes += kv_heads as f64 * length * number_bytes;
        }
        work
    }

    /// The least seconds for a prompt of `tokens` after `depth` others: all products at the rates of `limits`.
    #[must_use]
    pub fn prompt_seconds(&self, tokens: usize, depth: usize, limits: &Limits) -> f64 {
        let n = tokens as f64;
        let seen = n * depth as f64 + n * (n + 1.0) / 2.0;
        n * self.byte_products / limits.byte_products
            + n * self.bf16_products / limits.bf16_products
            + (n * self.float_products + seen * self.attention_products) / limits.float_products
            + self.output_products / limits.products(self.output_type)
    }

    /// The least seconds for `tokens` one after the other after `depth` others: all bytes at the rate of `limits`.
    #[must_use]
    pub fn generation_seconds(&self, tokens: usize, depth: usize, limits: &Limits) -> f64 {
        let n = tokens as f64;
        let seen = n * depth as f64 + n * (n + 1.0) / 2.0;
        (n * self.weight_bytes + seen * self.cache_bytes) / limits.bytes_read
    }
}

/// The share of experts that a token uses.
fn expert_share(h: &Hparams) -> f64 {
    let count = |key| h.count_or(key, 0).unwrap_or(0);
    let (all, used) = (count(keys::EXPERT_COUNT), count(keys::EXPERT_USED_COUNT));
    if all == 0 { 1.0 } else { used as f64 / all as f64 }
}
