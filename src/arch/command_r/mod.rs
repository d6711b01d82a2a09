//! Cohere's Command R and R+: both parts of a block in parallel behind one layer norm; R+ has a layer norm for each query
//! and key head.

use super::family::Family;
use super::graph::{factor, gated, in_parallel};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static COMMAND_R: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default"]"#), ("use_parallel_block", "[true]")],
    ..Family::new("command-r", &["CohereForCausalLM"], |h| Ok(rules(h)), spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    // Published checkpoints state a longer context beside the one that they were first trained on.
    if let Some(length) = config.count(&["model_max_length"])? {
        keys.count(keys::CONTEXT_LENGTH, length);
    }
    let scale = config.number(&["logit_scale"])?.ok_or_else(|| config.bad("logit_scale", "a number"))?;
    keys.float(keys::LOGIT_SCALE, scale);
    keys.text(keys::ROPE_SCALING_TYPE, "none");
    Ok(())
}

fn rules(h: &Hparams) -> Vec<TensorRule> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.weight("attn_q_norm", &[k, h.head_count[i]], "self_attn.q_norm").optional();
        block.weight("attn_k_norm", &[k, h.head_count_kv[i]], "self_attn.k_norm").optional();
        block.gated_ffn(d, h.feed_forward_length[i], "mlp");
    }
    rules.finish()
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let feed_forward = |_| gated(Activation::Silu);
    let mut model = usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Pairs, feed_forward, |_, mixer| {
        mixer.qk_norm = NormKind::Layer;
    })?;
    model.layers.iter_mut().for_each(in_parallel);
    model.logit_scale = factor(h, keys::LOGIT_SCALE)?.unwrap_or(1.0);
    Ok(model)
}
