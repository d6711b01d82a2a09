//! `EuroBERT`: llama's layers as an encoder, whose tokens all see each other.

use super::bert::encoder;
use super::family::Family;
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, TokenKey, keys, usual};
use crate::network::{ModelSpec, RopeStyle, Tensors};

/// The family.
pub(super) static EUROBERT: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default"]"#)],
    token_keys: |_| vec![TokenKey::First("bos", false)],
    ..Family::new("eurobert", &["EuroBertModel"], |h| Ok(rules(h)), spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.flag(keys::ATTENTION_CAUSAL, false);
    keys.text(keys::ROPE_SCALING_TYPE, "none");
    encoder(config, keys)
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "model.embed_tokens.weight");
    rules.add("output_norm.weight", &[d], "model.norm.weight");
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let causal = h.bool_or(keys::ATTENTION_CAUSAL, false)?;
    let model = usual::spec_with(h, weights, RopeStyle::Halves, |_, mixer| mixer.causal = causal)?;
    Ok(ModelSpec { logits: false, ..model })
}
