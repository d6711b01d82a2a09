//! OLMo 1: llama's model with layer norms that have no weights; queries, keys and values are clamped in some.

use super::family::Family;
use super::graph::{factor, gated};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, ModelSpec, NormKind, NormSpec, RopeStyle, Tensors};

/// The epsilon that the class computes with; no setting says it.
const EPSILON: f64 = 1e-5;

/// The family.
pub(super) static OLMO: Family =
    Family { keys: config_keys, ..Family::new("olmo", &["OlmoForCausalLM"], |h| Ok(rules(h)), spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    keys.float(keys::LAYER_NORM_EPSILON, EPSILON);
    if let Some(most) = config.number(&["clip_qkv"])? {
        keys.float(keys::CLAMP_KQV, most);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let matrix = [h.embedding_length, h.vocab_size];
    let mut rules = Rules::with_blocks("model.layers.");
    rules.add("token_embd.weight", &matrix, "model.embed_tokens.weight");
    rules.add("output.weight", &matrix, "lm_head.weight").optional();
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.attention(h, i, true);
        block.gated_ffn(h.embedding_length, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let clamp = factor(h, keys::CLAMP_KQV)?;
    if clamp.is_some_and(|most| most < 0.0) {
        return Err(h.bad_key(keys::CLAMP_KQV, "at least 0"));
    }
    let feed_forward = |_| gated(Activation::Silu);
    let model = usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Pairs, feed_forward, |_, mixer| {
        mixer.clamp = clamp;
    })?;
    Ok(ModelSpec { norm: NormSpec { plain: true, ..model.norm }, ..model })
}
