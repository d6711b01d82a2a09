//! Laguna: normed query and key heads, a softplus gate for each head's result, most layers slide, with more heads and
//! rotary settings of their own; dense layers first, then experts chosen by sigmoids with a shared part.

use serde_json::Value as Json;

use super::family::Family;
use super::graph::{SlidingBase, dense_then_experts, rope, sliding_rope, windows};
use super::{Config, Error, Hparams, Keys, TensorRule, TokenKey, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, OutputGate, RopeStyle, Tensors};

/// Every fourth layer, from the first on, sees everything.
const PERIOD: usize = 4;
const HEADS: &str = "num_attention_heads_per_layer";
const GATE: &str = "gating";

/// The family.
pub(super) static LAGUNA: Family = Family {
    keys: config_keys,
    settings: &[
        (GATE, r#"[true, "per-head"]"#),
        ("gating_types", r#"["per-head", "per_head"]"#),
        ("moe_apply_router_weight_on_input", "[false]"),
        ("moe_router_logit_softcapping", "[0]"),
    ],
    token_keys,
    ..Family::new("laguna", &["LagunaForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let blocks = config.block_count()?;
    keys.shared(config)?;
    keys.these(config, &[keys::VOCAB_SIZE])?;
    let heads = match config.get(HEADS) {
        None => vec![config.required_count(&["num_attention_heads"])?; blocks],
        Some(list) => {
            let count = |n: &Json| n.as_u64().filter(|&n| n <= 1 << 16).and_then(|n| usize::try_from(n).ok());
            let heads = list.as_array().and_then(|list| list.iter().map(count).collect::<Option<Vec<_>>>());
            let heads = heads.filter(|heads| heads.len() == blocks);
            heads.ok_or_else(|| config.bad(HEADS, "a count for each layer"))?
        }
    };
    keys.integers(keys::HEAD_COUNT, heads.into_iter().map(|n| i32::try_from(n).unwrap_or(i32::MAX)));
    let window = config.count(&["sliding_window"])?.filter(|&window| window > 0);
    let slides = config.sliding_blocks(1)?;
    match window {
        Some(window) => keys.count(keys::SLIDING_WINDOW, window),
        None if slides.contains(&true) => return Err(config.bad("sliding_window", "more than 0")),
        None => {}
    }
    // Everybody assumes one order of the layers.
    if window.is_some() && (0..blocks).any(|i| slides[i] == i.is_multiple_of(PERIOD)) {
        keys.flags(keys::SLIDING_WINDOW_PATTERN, slides);
    }
    keys.expert_lengths(config)?;
    keys.flag(keys::EXPERT_WEIGHTS_NORM, true);
    let scale = config.number(&["moe_routed_scaling_factor"])?;
    keys.float(keys::EXPERT_WEIGHTS_SCALE, scale.unwrap_or(1.0));
    keys.count(keys::EXPERT_GATING_FUNC, 2);
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.leading_dense_blocks()?.unwrap_or(0));
    keys.count(keys::ROPE_DIMENSION_COUNT, config.rotary_length(1.0)?);
    if let Some(length) = config.sliding_rotary_length(1.0)? {
        keys.count(keys::ROPE_DIMENSION_COUNT_SWA, length);
    }
    Ok(())
}

/// The end of the assistant's turn is a second end of a text, and is not shown.
fn token_keys(config: &Config) -> Vec<TokenKey> {
    let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let first = config.get("bos_token_id").and_then(id);
    let ends = config.get("eos_token_id").and_then(Json::as_array).into_iter().flatten();
    let turn = ends.filter_map(id).find(|&end| Some(end) != first).map(|end| TokenKey::Id("eot", end));
    std::iter::once(TokenKey::Control("</assistant>")).chain(turn).collect()
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let dense = h.count(keys::LEADING_DENSE_BLOCK_COUNT)?;
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let shared = match h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)? {
        0 => length * h.count_or(keys::EXPERT_SHARED_COUNT, 1)?,
        shared => shared,
    };
    usual::tensors_of(h, false, |block, i| {
        block.weight("attn_gate", &[d, h.head_count[i]], "self_attn.g_proj");
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            return Ok(());
        }
        block.weight("ffn_gate_inp", &[d, count], "mlp.gate");
        block.tensor("exp_probs_b.bias", &[count], "mlp.experts.e_score_correction_bias");
        block.joined_experts(d, length, count, "mlp.experts", ["gate_proj", "up_proj", "down_proj"]);
        block.shared_expert(d, shared, "mlp.shared_expert");
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let windows = if h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?.is_some() {
        windows(h, None)?
    } else {
        let window = Some(h.count_or(keys::SLIDING_WINDOW, 0)?).filter(|&window| window > 0);
        (0..h.block_count).map(|i| window.filter(|_| !i.is_multiple_of(PERIOD))).collect()
    };
    let global = rope(h, weights, RopeStyle::Halves)?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::Same)?;
    let parts = dense_then_experts(h, Activation::Silu, Gating::Sigmoid, false)?;
    let part = |i: usize| parts[i].clone();
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, part, |i, mixer| {
        mixer.window = windows[i];
        mixer.rope = Some(if windows[i].is_some() { &local } else { &global }.clone());
        mixer.gate = OutputGate::Softplus;
    })
}
