//! MiMo V2 Flash: values shorter than keys, a factor of the attention's result, windows with more key-value heads, a
//! rotary base of their own and sinks; dense layers, and layers with experts chosen by sigmoids.

use serde_json::{Value as Json, json};

use super::family::Family;
use super::graph::{SlidingBase, dense_or_experts, experts, factor, rope, sliding_rope, windows};
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static MIMO2: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default"]"#), ("topk_method", r#"["noaux_tc"]"#)],
    ..Family::new("mimo2", &["MiMoV2FlashForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    config.expect("scoring_func", &json!("sigmoid"), "sigmoid")?;
    keys.shared(config)?;
    let slides = sliding(config)?;
    let heads = config.required_count(&["num_key_value_heads"])?;
    let sliding_heads = config.count(&["swa_num_key_value_heads"])?.unwrap_or(heads.saturating_mul(2));
    let heads = slides.iter().map(|&slides| if slides { sliding_heads } else { heads });
    keys.integers(keys::HEAD_COUNT_KV, heads.map(|n| i32::try_from(n).unwrap_or(i32::MAX)));
    keys.count(keys::SLIDING_WINDOW, window(config)?);
    keys.integers(keys::SLIDING_WINDOW_PATTERN, slides.into_iter().map(i32::from));
    keys.count(keys::VALUE_LENGTH, config.required_count(&["v_head_dim"])?);
    for (own, other) in [
        ("swa_num_attention_heads", "num_attention_heads"),
        ("swa_head_dim", "head_dim"),
        ("swa_v_head_dim", "v_head_dim"),
    ] {
        if config.get(own).is_some_and(|own| Some(own) != config.get(other)) {
            return Err(config.bad(own, "that of the other layers"));
        }
    }
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["moe_intermediate_size"])?);
    let share = "partial_rotary_factor";
    let sliding_share = config.sliding_rotary(share).map_or(Some(1.0), Json::as_f64);
    if config.has_sliding_rope() && sliding_share != Some(config.rope_number(share).unwrap_or(1.0)) {
        return Err(config.bad(share, "the same in full_attention and sliding_attention"));
    }
    keys.count(keys::ROPE_DIMENSION_COUNT, config.rotary_length(1.0)?);
    let (name, epsilon) = ("layernorm_epsilon", config.number(&["rms_norm_eps"])?);
    if config.number(&[name])?.is_some_and(|other| epsilon != Some(other)) {
        return Err(config.bad(name, "rms_norm_eps"));
    }
    if let Some(scale) = config.number(&["attention_value_scale"])? {
        keys.float(keys::VALUE_SCALE, scale);
    }
    // The class does not know it.
    let _ = config.get("attention_chunk_size");
    feed_forward(config)
}

/// Which layers slide: two settings say it.
fn sliding(config: &Config) -> Result<Vec<bool>, Error> {
    let name = "hybrid_layer_pattern";
    let slides = config.sliding_blocks(usize::MAX)?;
    match config.get(name) {
        Some(list) if *list != json!(slides.iter().map(|&slides| u8::from(slides)).collect::<Vec<_>>()) => {
            Err(config.bad(name, "1 for sliding_attention, 0 for full_attention in layer_types"))
        }
        _ => Ok(slides),
    }
}

/// Positions that are seen, the current one included, which one of two settings does not count.
fn window(config: &Config) -> Result<usize, Error> {
    let before = config.count(&["sliding_window_size"])?;
    let window = config.required_count(&["sliding_window"])?;
    Ok(before.map_or(window, |before| before.saturating_add(1)))
}

/// Refuses settings that do not agree on the layers with experts. Files do not say which these are, but have their tensors.
fn feed_forward(config: &Config) -> Result<(), Error> {
    let name = "mlp_layer_types";
    let Some(kinds) = config.get(name) else { return Ok(()) };
    let kinds: Option<Vec<u8>> = kinds.as_array().and_then(|kinds| {
        let sparse = |kind: &Json| match kind.as_str() {
            Some("dense") => Some(0),
            Some("sparse") => Some(1),
            _ => None,
        };
        kinds.iter().map(sparse).collect()
    });
    let kinds = kinds.filter(|kinds| config.block_count().is_ok_and(|blocks| blocks == kinds.len()));
    let kinds = kinds.ok_or_else(|| config.bad(name, "dense or sparse for each layer"))?;
    config.expect("moe_layer_freq", &json!(kinds), "1 for sparse, 0 for dense in mlp_layer_types")
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    usual::tensors_of(h, false, |block, i| {
        block.tensor("attn_sinks.weight", &[h.head_count[i]], "self_attn.attention_sink_bias").optional();
        block.optionally(|block| {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            block.weight("ffn_gate_inp", &[d, count], "mlp.gate");
            block.tensor("exp_probs_b.bias", &[count], "mlp.gate.e_score_correction_bias");
            block.joined_experts(d, length, count, "mlp.experts", ["gate_proj", "up_proj", "down_proj"]);
        });
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    h.positive(keys::SLIDING_WINDOW)?;
    if h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?.is_none() {
        return Err(h.bad_key(keys::SLIDING_WINDOW_PATTERN, "a number for each layer"));
    }
    let windows = windows(h, None)?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::TenThousand)?;
    let global = rope(h, weights, RopeStyle::Halves)?;
    let value_scale = factor(h, keys::VALUE_SCALE)?.unwrap_or(1.0);
    let experts = experts(h, Activation::Silu, Gating::Sigmoid, true)?;
    let parts = dense_or_experts(h, weights, Activation::Silu, &experts)?;
    let part = |i: usize| parts[i].clone();
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, part, |i, mixer| {
        mixer.window = windows[i];
        mixer.rope = Some(if windows[i].is_some() { &local } else { &global }.clone());
        mixer.value_scale = value_scale;
    })
}
