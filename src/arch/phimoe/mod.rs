//! Phi 3.5 MoE: layer norms with biases, biases everywhere else, and two experts a token, chosen one after the other (sparse
//! mixer).

use super::family::Family;
use super::graph::{attention, layer, long_rope, model_of, routed, windows};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, phi3};
use crate::network::{
    Activation, AttentionMixer, FeedForward, Gating, Mixer, ModelSpec, NormKind, NormSpec, RopeStyle, Tensors,
};

/// The noise that models are trained with where files do not say it.
const JITTER: f32 = 0.01;

/// The family.
pub(super) static PHIMOE: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default", "longrope", "su"]"#)],
    ..Family::new("phimoe", &["PhiMoEForCausalLM", "PhimoeForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    phi3::keys(config, keys)?;
    if config.rope_type() != "default" {
        // The model has a factor for each length in place of the one that follows from both lengths.
        let [short, long] = ["short_mscale", "long_mscale"].map(|name| config.rope_number(name));
        match (short, long) {
            (Some(short), Some(long)) if short == long => keys.float_ahead(keys::ROPE_SCALING_ATTN_FACTOR, short),
            _ => return Err(config.bad("short_mscale", "a number, and the same as long_mscale")),
        }
    }
    let used = config.required_count(&["num_experts_per_tok"])?;
    if used != 2 {
        return Err(config.bad("num_experts_per_tok", "2"));
    }
    keys.count(keys::EXPERT_USED_COUNT, used);
    keys.count(keys::EXPERT_COUNT, config.required_count(&["num_local_experts"])?);
    let jitter = config.number(&["router_jitter_noise"])?.unwrap_or(f64::from(JITTER));
    // The reference drops it.
    if (jitter - f64::from(JITTER)).abs() > 1e-9 {
        keys.float(keys::ROUTER_JITTER_NOISE, jitter);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let pairs = h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2;
    let mut rules = Rules::new(h);
    rules.add("output.bias", &[h.vocab_size], "lm_head.bias").optional();
    rules.add("output_norm.bias", &[d], "model.norm.bias").optional();
    rules.add_rope_factors("rope_factors_long.weight", pairs);
    rules.add_rope_factors("rope_factors_short.weight", pairs);
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.norm("attn_norm", d, "input_layernorm");
        block.attention(h, i, false);
        block.norm("ffn_norm", d, "post_attention_layernorm");
        block.weight("ffn_gate_inp", &[d, count], "block_sparse_moe.gate");
        block.experts(d, hidden, count, "block_sparse_moe.experts", ["w1", "w3", "w2"]);
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let jitter = h.f32_or(keys::ROUTER_JITTER_NOISE, JITTER)?;
    if jitter < 0.0 {
        return Err(h.bad_key(keys::ROUTER_JITTER_NOISE, "at least 0"));
    }
    let rope = long_rope(h, weights, RopeStyle::Halves)?;
    let experts = routed(h, Activation::Silu, Gating::SparseMixer { jitter }, false)?;
    let windows = windows(h, None)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = AttentionMixer { window: windows[i], ..attention(h, i, Some(rope.clone())) };
        layer(Mixer::Attention(mixer), FeedForward::Experts(experts.clone()))
    });
    // Layer norms, whose epsilon files have under the other name; llama.cpp takes them for RMS norms.
    let norm = NormSpec { kind: NormKind::Layer, epsilon: h.f32(keys::LAYER_NORM_RMS_EPSILON)?, plain: false };
    model_of(h, norm, layers.collect())
}
