//! What a model has to do for its tokens at the least, so that times can be held against the machine's limits.

#![allow(clippy::cast_precision_loss, reason = "sums of work, of which three digits are shown")]

use crate::TensorType;
use crate::arch::{Hparams, keys};
use crate::cpu::KvType;
use crate::kernels::Limits;
use crate::model::Model;

/// Products and bytes of a model's tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Products of each token of a prompt.
    pub each: Products,
    /// Products of its last token alone: the output matrix, and what follows the last keys and values.
    pub last: Products,
    /// Bytes of weights that one token reads.
    pub weight_bytes: f64,
    /// Bytes of the cache for a position.
    pub cache_bytes: f64,
}

/// Products by what the CPU computes them with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Products {
    /// With quantized weights.
    pub bytes: f64,
    /// With weights in bf16.
    pub bf16: f64,
    /// With other weights.
    pub floats: f64,
    /// Of attention, for each position that is seen.
    pub attention: f64,
}

impl Products {
    fn add(&mut self, ty: TensorType, products: f64) {
        *match ty {
            TensorType::BF16 => &mut self.bf16,
            ty if ty.is_quantized() => &mut self.bytes,
            _ => &mut self.floats,
        } += products;
    }

    /// The least seconds for `tokens` tokens that see `positions` in all.
    fn seconds(&self, tokens: f64, positions: f64, limits: &Limits) -> f64 {
        tokens * self.bytes / limits.byte_products
            + tokens * self.bf16 / limits.bf16_products
            + (tokens * self.floats + positions * self.attention) / limits.float_products
    }
}

impl Work {
    /// The work of `model`'s tokens, with a cache of type `kv_type`. Of a mixture of experts, as many count as a
    /// token uses.
    #[must_use]
    pub fn of(model: &Model, kv_type: KvType) -> Self {
        let h = model.hparams();
        let last_memory = model.decoder().last_memory();
        let mut work =
            Self { each: Products::default(), last: Products::default(), weight_bytes: 0.0, cache_bytes: 0.0 };
        let output = ["output.weight", "token_embd.weight"]
            .into_iter()
            .find_map(|name| model.tensors().iter().find(|(found, _)| found == name));
        if let Some((_, matrix)) = output {
            work.weight_bytes += matrix.bytes().len() as f64;
            work.last.add(matrix.ty(), (matrix.rows() * matrix.cols()) as f64);
        }
        for (name, matrix) in model.tensors() {
            let Some((block, part)) = block_and_part(name) else { continue };
            let share = if name.contains("_exps.") { expert_share(h) } else { 1.0 };
            work.weight_bytes += share * matrix.bytes().len() as f64;
            if matrix.rows() > 1 {
                let once = block > last_memory || block == last_memory && !feeds_memory(part);
                let products = if once { &mut work.last } else { &mut work.each };
                products.add(matrix.ty(), share * (matrix.rows() * matrix.cols()) as f64);
            }
        }
        let number_bytes = match kv_type {
            KvType::F32 => 4.0,
            KvType::F16 => 2.0,
            KvType::Q8_0 => TensorType::Q8_0.row_bytes(32) as f64 / 32.0,
        };
        let length = (h.key_length + h.value_length) as f64;
        for (block, (&heads, &kv_heads)) in h.head_count.iter().zip(&h.head_count_kv).enumerate() {
            if kv_heads > 0 {
                let products = if block < last_memory { &mut work.each } else { &mut work.last };
                products.attention += heads as f64 * length;
                work.cache_bytes += kv_heads as f64 * length * number_bytes;
            }
        }
        work
    }

    /// The least seconds for a prompt of `tokens` after `depth` others: all products at the rates of `limits`.
    #[must_use]
    pub fn prompt_seconds(&self, tokens: usize, depth: usize, limits: &Limits) -> f64 {
        self.each.seconds(tokens as f64, positions_seen(tokens, depth), limits)
            + self.last.seconds(1.0, (depth + tokens) as f64, limits)
    }

    /// The least seconds for `tokens` one after the other after `depth` others: all bytes at the rate of `limits`.
    #[must_use]
    pub fn generation_seconds(&self, tokens: usize, depth: usize, limits: &Limits) -> f64 {
        (tokens as f64 * self.weight_bytes + positions_seen(tokens, depth) * self.cache_bytes) / limits.bytes_read
    }
}

/// Positions that `tokens` tokens see in all, after `depth` others.
fn positions_seen(tokens: usize, depth: usize) -> f64 {
    let n = tokens as f64;
    n * depth as f64 + n * (n + 1.0) / 2.0
}

/// The block's number and the rest of a name like `blk.3.ffn_up.weight`.
fn block_and_part(name: &str) -> Option<(usize, &str)> {
    let (block, part) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((block.parse().ok()?, part))
}

/// Whether what a sequence remembers depends on this tensor of the last block that remembers anything.
fn feeds_memory(part: &str) -> bool {
    let input = ["attn_k", "attn_v", "attn_qkv", "ssm_", "shortconv."].iter().any(|prefix| part.starts_with(prefix));
    input && !part.contains("out")
}

/// The share of experts that a token uses.
fn expert_share(h: &Hparams) -> f64 {
    let count = |key| h.count_or(key, 0).unwrap_or(0);
    let (all, used) = (count(keys::EXPERT_COUNT), count(keys::EXPERT_USED_COUNT));
    if all == 0 { 1.0 } else { used as f64 / all as f64 }
}
