//! Refact: scores fall with the distance (ALiBi), and all query heads share one key-value head.

use super::family::Family;
use super::{Config, Error, Hparams, Keys, Rules, Step, TensorRule, TokenKey, keys, usual};
use crate::network::{ModelSpec, RopeStyle, Tensors};

/// Of the scores that fall.
const MAX_ALIBI: f32 = 8.0;
/// Hidden lengths are multiples of it.
const HIDDEN_UNIT: usize = 256;

/// The family.
pub(super) static REFACT: Family = Family {
    keys: config_keys,
    settings: &[("multi_query", "[true]")],
    token_keys: |_| vec![TokenKey::Pre("refact")],
    own_code: true,
    ..Family::new("refact", &["GPTRefactForCausalLM"], |h| Ok(rules(h)), falling)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.these(config, &[keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH])?;
    // Two thirds of four times the embedding.
    let hidden = config.required_count(&["n_embd"])?.saturating_mul(8) / 3;
    keys.count(keys::FEED_FORWARD_LENGTH, hidden.next_multiple_of(HIDDEN_UNIT));
    keys.these(config, &[keys::BLOCK_COUNT, keys::HEAD_COUNT])?;
    keys.count(keys::HEAD_COUNT_KV, 1);
    keys.these(config, &[keys::LAYER_NORM_EPSILON])?;
    keys.rename(keys::LAYER_NORM_EPSILON, keys::LAYER_NORM_RMS_EPSILON);
    keys.file_type();
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k, v) = (h.embedding_length, h.key_length, h.value_length);
    let mut rules = Rules::with_blocks("transformer.h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "transformer.wte.weight");
    rules.add("output_norm.weight", &[d], "ln_f.weight").or("transformer.ln_f.weight");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let (heads, kv_heads, hidden) = (h.head_count[i], h.head_count_kv[i], h.feed_forward_length[i]);
        let (keys, values) = (kv_heads * k, kv_heads * v);
        let rows = |start, count| [Step::Rows { start, count }];
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "ln_1");
        block.linear("attn_q", [d, heads * k], "attn.q", &[]);
        block.linear("attn_k", [d, keys], "attn.kv", &rows(0, keys));
        block.linear("attn_v", [d, values], "attn.kv", &rows(keys, values));
        block.linear("attn_output", [heads * v, d], "attn.c_proj", &[]);
        block.weight("ffn_norm", &[d], "ln_2");
        block.linear("ffn_gate", [d, hidden], "mlp.gate_up_proj", &rows(0, hidden));
        block.linear("ffn_up", [d, hidden], "mlp.gate_up_proj", &rows(hidden, hidden));
        block.linear("ffn_down", [hidden, d], "mlp.c_proj", &[]);
    }
    rules.finish()
}

/// The usual model without a rotary embedding: scores fall with the distance.
///
/// # Errors
/// When a hyper-parameter is missing or impossible.
pub(super) fn falling(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    usual::spec_with(h, weights, RopeStyle::Pairs, |_, mixer| {
        mixer.rope = None;
        mixer.max_alibi = Some(MAX_ALIBI);
    })
}
