//! BLOOM: layer norms with biases, one of the embeddings too; attention whose scores fall with the distance (ALiBi) and whose
//! queries, keys and values lie head by head in checkpoints.

use super::family::Family;
use super::graph::{attention, layer, model, plain};
use super::{Config, Error, Hparams, Keys, Rules, Step, TensorRule, keys};
use crate::network::{Activation, AttentionMixer, Mixer, ModelSpec, NormKind, Tensors};

/// Of the slopes of scores; files do not say it.
const MAX_ALIBI: f32 = 8.0;

/// The family.
pub(super) static BLOOM: Family =
    Family { keys: config_keys, ..Family::new("bloom", &["BloomForCausalLM"], |h| Ok(rules(h)), spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let width = config.required_count(&["n_embed", "hidden_size"])?;
    let heads = config.required_count(&["n_head", "num_attention_heads"])?;
    keys.count(keys::CONTEXT_LENGTH, config.count(&["seq_length"])?.unwrap_or(width));
    keys.count(keys::EMBEDDING_LENGTH, width);
    keys.count(keys::FEED_FORWARD_LENGTH, width.saturating_mul(4));
    keys.these(config, &[keys::BLOCK_COUNT])?;
    keys.count(keys::HEAD_COUNT, heads);
    keys.count(keys::HEAD_COUNT_KV, heads);
    keys.these(config, &[keys::LAYER_NORM_EPSILON])?;
    keys.file_type();
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::with_blocks("h.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "word_embeddings.weight");
    rules.norm("token_embd_norm", d, "word_embeddings_layernorm");
    rules.norm("output_norm", d, "ln_f");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let by_kind = Step::RowsOfEach { of: 3 * k, ranges: vec![0..k, k..2 * k, 2 * k..3 * k] };
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.linear("attn_qkv", [d, 3 * h.head_count[i] * k], "self_attention.query_key_value", &[by_kind]);
        block.linear("attn_output", [h.head_count[i] * k, d], "self_attention.dense", &[]);
        block.norm("ffn_norm", d, "post_attention_layernorm");
        block.plain_ffn(d, h.feed_forward_length[i], "mlp.dense_h_to_4h", "mlp.dense_4h_to_h");
    }
    rules.finish()
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    if h.head_count != h.head_count_kv || h.value_length != h.key_length {
        return Err(h.bad_key(keys::HEAD_COUNT_KV, "attention.head_count, with values as long as keys"));
    }
    let layers = (0..h.block_count).map(|i| {
        let mixer = AttentionMixer { max_alibi: Some(MAX_ALIBI), ..attention(h, i, None) };
        layer(Mixer::Attention(mixer), plain(Activation::GeluTanh))
    });
    model(h, NormKind::Layer, layers.collect())
}
