//! Families whose checkpoints bring code of their own, which transformers does not have: their GGUF files run, their checkpoints
//! are not converted. All are variations of the usual model. What is computed is what llama.cpp computes.

use super::family::Family;
use super::graph::{dense_then_experts, experts, factor_or, gated, plain};
use super::{Error, Hparams, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// InternLM 2 and 2.5.
pub(super) static INTERNLM2: Family = Family::new("internlm2", &[], tensors, pairs);
/// XVERSE.
pub(super) static XVERSE: Family = Family::new("xverse", &[], tensors, pairs);
/// EXAONE 3 and 3.5.
pub(super) static EXAONE: Family = Family::new("exaone", &[], tensors, halves);
/// Baichuan 1 and 2.
pub(super) static BAICHUAN: Family = Family::new("baichuan", &[], tensors, baichuan);
/// MiniCPM 1 and 2.
pub(super) static MINICPM: Family = Family::new("minicpm", &[], tensors, minicpm);
/// Orion: norms have a mean and a bias.
pub(super) static ORION: Family = Family::new("orion", &[], orion_tensors, orion);
/// Qwen 1.
pub(super) static QWEN: Family = Family::new("qwen", &[], qwen_tensors, halves);
/// DeepSeek 1 with experts.
pub(super) static DEEPSEEK: Family = Family::new("deepseek", &[], deepseek_tensors, deepseek);

/// Ling, with experts in all layers.
pub(super) static BAILINGMOE: Family = Family::new("bailingmoe", &[], bailingmoe_tensors, bailingmoe);
/// Refact: scores fall with the distance.
pub(super) static REFACT: Family = Family::new("refact", &[], tensors, refact);
/// CodeShell: norms have a mean and a bias, and all maps a bias.
pub(super) static CODESHELL: Family =
    Family::new("codeshell", &[], |h| usual::tensors_of_layer_norms(h, &[]), codeshell);

/// Layers of the Baichuan with 7 billion weights, which rotates queries and keys.
const BAICHUAN_7B: usize = 32;
/// Layers of the Baichuan with 13 billion weights, whose scores fall with the distance.
const BAICHUAN_13B: usize = 40;
/// Of the scores of Refact and [`BAICHUAN_13B`].
const MAX_ALIBI: f32 = 8.0;

fn tensors(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    usual::tensors(h, false)
}

fn pairs(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec(h, weights, RopeStyle::Pairs)
}

fn halves(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec(h, weights, RopeStyle::Halves)
}

/// Files do not say how positions are encoded: the number of layers does.
fn baichuan(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let falls = match h.block_count {
        BAICHUAN_7B => false,
        BAICHUAN_13B => true,
        _ => return Err(h.bad_key(keys::BLOCK_COUNT, "32 or 40")),
    };
    if falls { refact(h, weights) } else { pairs(h, weights) }
}

fn refact(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec_with(h, weights, RopeStyle::Pairs, |_, mixer| {
        mixer.rope = None;
        mixer.max_alibi = Some(MAX_ALIBI);
    })
}

fn codeshell(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, |_| plain(Activation::GeluTanh), |_, _| {})
}

/// Factors of embeddings, residuals and logits; files of 2024 do not say them.
#[allow(clippy::cast_precision_loss, reason = "lengths and layers are far below 2^24")]
fn minicpm(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let mut model = usual::spec(h, weights, RopeStyle::Pairs)?;
    let or_one = |key: &str, default: f32| Ok::<f32, Error>(factor_or(h, key, default)?.unwrap_or(1.0));
    model.embedding_scale = or_one(keys::EMBEDDING_SCALE, 12.0)?;
    model.logit_scale = 1.0 / or_one(keys::LOGIT_SCALE, 256.0 / h.embedding_length as f32)?;
    let residual = or_one(keys::RESIDUAL_SCALE, 1.4 / (h.block_count as f32).sqrt())?;
    model.layers.iter_mut().for_each(|layer| layer.residual_scale = residual);
    Ok(model)
}

fn orion_tensors(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let mut rules = usual::tensors(h, false)?;
    let mut biases = super::Rules::with_blocks("model.layers.");
    for i in 0..h.block_count {
        let mut block = biases.block(i);
        for (name, source) in
            [("attn_norm.bias", "input_layernorm.bias"), ("ffn_norm.bias", "post_attention_layernorm.bias")]
        {
            block.tensor(name, &[h.embedding_length], source);
        }
    }
    biases.add("output_norm.bias", &[h.embedding_length], "model.norm.bias");
    rules.extend(biases.finish());
    Ok(rules)
}

fn orion(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, |_| gated(Activation::Silu), |_, _| {})
}

/// Queries, keys and values in one; the hidden length of files is that of gate and up together.
fn qwen_tensors(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = super::Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "ln_1");
        block.linear("attn_qkv", [d, 3 * h.head_count[i] * h.key_length], "attn.c_attn", &[]);
        block.weight("attn_output", &[d, d], "attn.c_proj");
        block.weight("ffn_norm", &[d], "ln_2");
        block.gated_ffn(d, h.feed_forward_length[i] / 2, "mlp");
    }
    Ok(rules.finish())
}

fn deepseek_tensors(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    tensors_with_experts(h, h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?)
}

fn bailingmoe_tensors(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    tensors_with_experts(h, 0)
}

/// With experts in all layers after the first `dense`.
fn tensors_with_experts(h: &Hparams, dense: usize) -> Result<Vec<TensorRule>, Error> {
    usual::tensors_of(h, false, |block, i| {
        if i < dense {
            block.gated_ffn(h.embedding_length, h.feed_forward_length[i], "mlp");
            return Ok(());
        }
        let (d, length) = (h.embedding_length, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?);
        block.routed_experts(d, length, h.positive(keys::EXPERT_COUNT)?, "mlp");
        block.shared_expert(d, length * h.positive(keys::EXPERT_SHARED_COUNT)?, "mlp.shared_experts");
        Ok(())
    })
}

/// The weights of the chosen experts stay as the softmax over all has them.
fn deepseek(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let parts = dense_then_experts(h, Activation::Silu, Gating::Softmax, false)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, |i| parts[i].clone(), |_, _| {})
}

fn bailingmoe(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let part = experts(h, Activation::Silu, Gating::Softmax, false)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, |_| part.clone(), |_, _| {})
}
