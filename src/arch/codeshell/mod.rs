//! CodeShell: norms have a mean and a bias, all maps a bias; queries, keys and values are one map.

use super::family::Family;
use super::graph::plain;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, TokenKey, keys, usual};
use crate::network::{Activation, NormKind, RopeStyle};

/// The family.
pub(super) static CODESHELL: Family = Family {
    keys: config_keys,
    settings: &[
        ("activation_function", r#"["gelu_pytorch_tanh", "gelu_new", "gelu_fast"]"#),
        ("group_query_attention", "[true]"),
    ],
    token_keys: |_| vec![TokenKey::Pre("codeshell")],
    own_code: true,
    ..Family::new(
        "codeshell",
        &["CodeShellForCausalLM"],
        |h| Ok(rules(h)),
        |h, weights| {
            let part = |_| plain(Activation::GeluTanh);
            usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, part, |_, _| {})
        },
    )
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(config, &[keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH])?;
    keys.count(keys::FEED_FORWARD_LENGTH, config.required_count(&["n_embd"])?.saturating_mul(4));
    keys.these(config, &[keys::BLOCK_COUNT, keys::HEAD_COUNT])?;
    keys.count(keys::HEAD_COUNT_KV, config.required_count(&["num_query_groups"])?);
    keys.these(config, &[keys::LAYER_NORM_EPSILON])?;
    keys.file_type();
    keys.float(keys::ROPE_FREQ_BASE, 10_000.0);
    keys.text(keys::ROPE_SCALING_TYPE, "linear");
    keys.float(keys::ROPE_SCALING_FACTOR, 1.0);
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k, v) = (h.embedding_length, h.key_length, h.value_length);
    let mut rules = Rules::with_blocks("transformer.h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "transformer.wte.weight");
    rules.norm("output_norm", d, "transformer.ln_f");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let (heads, kv_heads) = (h.head_count[i], h.head_count_kv[i]);
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "ln_1");
        block.linear("attn_qkv", [d, (heads + kv_heads) * k + kv_heads * v], "attn.c_attn", &[]);
        block.linear("attn_output", [heads * v, d], "attn.c_proj", &[]);
        block.norm("ffn_norm", d, "ln_2");
        block.plain_ffn(d, h.feed_forward_length[i], "mlp.c_fc", "mlp.c_proj");
    }
    rules.finish()
}
