//! StarCoder 1: GPT-2's model with one key-value head for all query heads.

use super::family::Family;
use super::graph::{attention, gelu, layer, model, plain};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys};
use crate::network::{Activation, Mixer, ModelSpec, NormKind, Tensors};

/// The family's own form of GELU.
const GELU: Activation = Activation::GeluTanh;

/// The family.
pub(super) static STARCODER: Family = Family {
    keys: config_keys,
    settings: &[("multi_query", "[true]")],
    ..Family::new("starcoder", &["GPTBigCodeForCausalLM"], |h| Ok(rules(h)), spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let lengths = [keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH, keys::FEED_FORWARD_LENGTH, keys::BLOCK_COUNT];
    keys.these(config, &lengths)?;
    keys.these(config, &[keys::HEAD_COUNT])?;
    keys.count(keys::HEAD_COUNT_KV, 1);
    keys.these(config, &[keys::LAYER_NORM_EPSILON])?;
    keys.file_type();
    keys.unusual_gelu(config, "activation_function", GELU)
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "wte.weight");
    rules.add("position_embd.weight", &[d, h.context_length], "wpe.weight");
    rules.norm("output_norm", d, "ln_f");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let rows = h.head_count[i] * k + h.head_count_kv[i] * (k + h.value_length);
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "ln_1");
        block.linear("attn_qkv", [d, rows], "attn.c_attn", &[]);
        block.linear("attn_output", [h.head_count[i] * h.value_length, d], "attn.c_proj", &[]);
        block.norm("ffn_norm", d, "ln_2");
        block.plain_ffn(d, h.feed_forward_length[i], "mlp.c_fc", "mlp.c_proj");
    }
    rules.finish()
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let layers = (0..h.block_count).map(|i| layer(Mixer::Attention(attention(h, i, None)), plain(activation)));
    model(h, NormKind::Layer, layers.collect())
}
