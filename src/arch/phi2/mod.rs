//! Phi 1, 1.5 and 2: both parts of a block in parallel behind one layer norm, part of each head rotated, biases
//! everywhere.

use super::family::Family;
use super::graph::{gelu, in_parallel, plain};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluTanh;

/// The family.
pub(super) static PHI2: Family =
    Family { keys: config_keys, ..Family::new("phi2", &["PhiForCausalLM"], |h| Ok(rules(h)), spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(
        config,
        &[
            keys::CONTEXT_LENGTH,
            keys::EMBEDDING_LENGTH,
            keys::FEED_FORWARD_LENGTH,
            keys::BLOCK_COUNT,
            keys::HEAD_COUNT,
            keys::HEAD_COUNT_KV,
            keys::LAYER_NORM_EPSILON,
        ],
    )?;
    keys.count(keys::ROPE_DIMENSION_COUNT, config.rotary_length(0.5)?);
    keys.unusual_rope_base(config);
    keys.file_type();
    keys.adds_bos(false);
    keys.unusual_gelu(config, "hidden_act", GELU)
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.embed_tokens.weight");
    rules.norm("output_norm", d, "model.final_layernorm");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    rules.add("output.bias", &[h.vocab_size], "lm_head.bias").optional();
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.linear("attn_q", [d, h.head_count[i] * k], "self_attn.q_proj", &[]);
        block.linear("attn_k", [d, h.head_count_kv[i] * k], "self_attn.k_proj", &[]);
        block.linear("attn_v", [d, h.head_count_kv[i] * h.value_length], "self_attn.v_proj", &[]);
        block.linear("attn_output", [h.head_count[i] * h.value_length, d], "self_attn.dense", &[]);
        block.plain_ffn(d, h.feed_forward_length[i], "mlp.fc1", "mlp.fc2");
    }
    rules.finish()
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let mut model = usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, |_| plain(activation), |_, _| {})?;
    model.layers.iter_mut().for_each(in_parallel);
    Ok(model)
}
