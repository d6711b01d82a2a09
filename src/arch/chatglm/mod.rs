//! GLM 4 (9B, in transformers' form): norms before each part, half of each head rotated, gate and up in one.

use super::family::Family;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, TokenKey, keys, usual};
use crate::network::{Activation, Dense, FeedForward, Gate, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static CHATGLM: Family = Family {
    keys: config_keys,
    token_keys: |_| {
        let end = "<|endoftext|>";
        vec![TokenKey::Text("eos", end), TokenKey::Text("eot", "<|user|>"), TokenKey::Text("unk", end)]
    },
    ..Family::new("chatglm", &["GlmForCausalLM"], |h| Ok(rules(h)), spec)
};

/// The reference takes the context, the epsilon and the rotary base from settings of an older class, and so has its own
/// defaults of these.
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
            keys::LAYER_NORM_RMS_EPSILON,
        ],
    )?;
    keys.file_type();
    keys.count(keys::ROPE_DIMENSION_COUNT, config.rotary_length(0.5)?);
    keys.adds_bos(false);
    let head = config.head_length()?;
    let heads = config.required_count(&["num_attention_heads"])?;
    config.expect("hidden_size", &serde_json::json!(head * heads), "num_attention_heads times head_dim")?;
    keys.float(keys::ROPE_FREQ_BASE, config.rope_number("rope_theta").unwrap_or(10_000.0));
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.linear("ffn_up", [d, 2 * h.feed_forward_length[i]], "mlp.gate_up_proj", &[]);
        block.linear("ffn_down", [h.feed_forward_length[i], d], "mlp.down_proj", &[]);
    }
    rules.finish()
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let dense = Dense { activation: Activation::Silu, gate: Gate::InUp };
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, |_| FeedForward::Dense(dense), |_, _| {})
}
