//! MPT: layer norms without biases, and attention whose scores fall with the distance (ALiBi); some models clamp queries, keys and
//! values.

use super::family::Family;
use super::graph::{attention, factor, layer, model, plain};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys};
use crate::network::{Activation, AttentionMixer, Mixer, ModelSpec, NormKind, Tensors};

/// The family.
pub(super) static MPT: Family = Family {
    keys: config_keys,
    settings: &[
        ("attn_config", "[]"),
        ("attn_config.alibi", "[true]"),
        ("attn_config.attn_type", r#"["multihead_attention"]"#),
        ("attn_config.kv_n_heads", "[]"),
        ("attn_config.prefix_lm", "[false]"),
        ("attn_config.qk_gn", "[false]"),
        ("attn_config.qk_ln", "[false]"),
        ("attn_config.rope", "[false]"),
        ("attn_config.sliding_window_size", "[-1]"),
        ("attn_config.softmax_scale", "[]"),
        ("norm_type", r#"["layernorm", "low_precision_layernorm"]"#),
    ],
    ..Family::new("mpt", &["MPTForCausalLM", "MptForCausalLM"], |h| Ok(rules(h)), spec)
};

const CLAMP: &str = "attn_config.clip_qkv";
const MAX_ALIBI: &str = "attn_config.alibi_bias_max";

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let (clamp, max_alibi) = (config.number(&[CLAMP])?, config.number(&[MAX_ALIBI])?.unwrap_or(8.0));
    if clamp.is_some_and(|clamp| clamp < 0.0) {
        return Err(config.bad(CLAMP, "a number from 0 on"));
    }
    if max_alibi <= 0.0 {
        return Err(config.bad(MAX_ALIBI, "more than 0"));
    }
    let width = config.required_count(&["d_model"])?;
    keys.count(keys::CONTEXT_LENGTH, config.required_count(&["max_seq_len"])?);
    keys.count(keys::EMBEDDING_LENGTH, width);
    keys.these(config, &[keys::BLOCK_COUNT])?;
    keys.count(keys::FEED_FORWARD_LENGTH, width.saturating_mul(4));
    keys.these(config, &[keys::HEAD_COUNT])?;
    keys.these(config, &[keys::LAYER_NORM_EPSILON])?;
    if let Some(clamp) = clamp {
        keys.float(keys::CLAMP_KQV, clamp);
    }
    keys.float(keys::MAX_ALIBI_BIAS, max_alibi);
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k, v) = (h.embedding_length, h.key_length, h.value_length);
    let mut rules = Rules::with_blocks("blocks.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "wte.weight");
    rules.norm("output_norm", d, "norm_f");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let (heads, kv_heads) = (h.head_count[i], h.head_count_kv[i]);
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "norm_1");
        block.linear("attn_qkv", [d, (heads + kv_heads) * k + kv_heads * v], "attn.Wqkv", &[]);
        block.linear("attn_output", [heads * v, d], "attn.out_proj", &[]);
        block.norm("ffn_norm", d, "norm_2");
        block.plain_ffn(d, h.feed_forward_length[i], "ffn.up_proj", "ffn.down_proj");
    }
    rules.finish()
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let max_alibi = factor(h, keys::MAX_ALIBI_BIAS)?;
    if max_alibi.is_some_and(|max| max < 0.0) || weights.has("position_embd.weight") {
        return Err(h.bad_key(keys::MAX_ALIBI_BIAS, "more than 0: models with learned positions are not run"));
    }
    let clamp = factor(h, keys::CLAMP_KQV)?;
    if clamp.is_some_and(|most| most < 0.0) {
        return Err(h.bad_key(keys::CLAMP_KQV, "at least 0"));
    }
    let layers = (0..h.block_count).map(|i| {
        let mixer = AttentionMixer { max_alibi, clamp, ..attention(h, i, None) };
        layer(Mixer::Attention(mixer), plain(Activation::GeluErf))
    });
    model(h, NormKind::Layer, layers.collect())
}
