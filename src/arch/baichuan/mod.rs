//! Baichuan 1: queries, keys and values in one. The model with 7 billion weights rotates queries and keys; the scores of that
//! with 13 billion fall with the distance. Files of Baichuan 2, whose output matrix was brought to rows of length one before, run too.

use super::family::Family;
use super::refact::falling;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{ModelSpec, RopeStyle, Tensors};

/// Layers of the model with 7 billion weights.
const LAYERS_7B: usize = 32;
/// Layers of the model with 13 billion weights.
const LAYERS_13B: usize = 40;
/// Tokens of Baichuan 2, by which alone its settings tell it from Baichuan 1.
const TOKENS_2: usize = 125_696;

/// The family.
pub(super) static BAICHUAN: Family = Family {
    keys: config_keys,
    own_code: true,
    ..Family::new("baichuan", &["BaichuanForCausalLM", "BaiChuanForCausalLM"], |h| Ok(rules(h)), spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    if config.count(&["vocab_size"])? == Some(TOKENS_2) {
        return Err(config.bad("vocab_size", "Baichuan 1's: Baichuan 2's output rows would have to be normalized"));
    }
    keys.shared(config)?;
    keys.text(keys::TENSOR_DATA_LAYOUT, "Meta AI original pth");
    keys.these(config, &[keys::ROPE_DIMENSION_COUNT])
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.fused_attention(h, i, "self_attn.W_pack", true);
        block.linear("attn_output", [h.head_count[i] * h.value_length, d], "self_attn.o_proj", &[]);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}

/// Files do not say how positions are encoded: the number of layers does.
fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    match h.block_count {
        LAYERS_7B => usual::spec(h, weights, RopeStyle::Pairs),
        LAYERS_13B => falling(h, weights),
        _ => Err(h.bad_key(keys::BLOCK_COUNT, "32 or 40")),
    }
}
