//! Cohere 2 with experts: both parts of a block in parallel behind one layer norm, blocks that slide rotate; the experts'
//! output and that of the part that all tokens share are averaged.

use super::family::Family;
use super::graph::{in_parallel, one_rope_base, required_factor, routed, windows_after_the_first};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, Experts, FeedForward, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything.
const PERIOD: usize = 4;

/// The family.
pub(super) static COHERE2_MOE: Family = Family {
    keys: config_keys,
    settings: &[
        ("prefix_dense_intermediate_size", "[]"),
        ("prefix_dense_sliding_window_pattern", "[1]"),
        ("rms_norm_eps", "[]"),
        ("rope_type", r#"["default"]"#),
        ("shared_expert_combination_strategy", r#"["average"]"#),
        ("use_parallel_block", "[true]"),
    ],
    ..Family::new("cohere2moe", &["Cohere2MoeForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    if config.leading_dense_blocks()?.unwrap_or(0) > 0 {
        return Err(config.bad("mlp_layer_types", "sparse for each block"));
    }
    keys.these(config, &[keys::BLOCK_COUNT, keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH])?;
    keys.these(config, &[keys::HEAD_COUNT, keys::HEAD_COUNT_KV])?;
    keys.float(keys::ROPE_FREQ_BASE, config.rope_number("rope_theta").unwrap_or(10_000.0));
    keys.these(config, &[keys::LAYER_NORM_EPSILON])?;
    keys.count(keys::EXPERT_COUNT, config.required_count(&["num_experts"])?);
    keys.count(keys::EXPERT_USED_COUNT, config.required_count(&["num_experts_per_tok"])?);
    let gating = match config.text("expert_selection_fn") {
        Some("softmax") => 1,
        Some("sigmoid") => 2,
        _ => return Err(config.bad("expert_selection_fn", "softmax or sigmoid")),
    };
    keys.count(keys::EXPERT_GATING_FUNC, gating);
    keys.these(config, &[keys::KEY_LENGTH, keys::VALUE_LENGTH])?;
    keys.file_type();
    let scale = config.number(&["logit_scale"])?.ok_or_else(|| config.bad("logit_scale", "a number"))?;
    keys.float(keys::LOGIT_SCALE, scale);
    keys.count(keys::SLIDING_WINDOW, config.required_count(&["sliding_window"])?);
    keys.flags(keys::SLIDING_WINDOW_PATTERN, config.sliding_blocks(PERIOD)?);
    keys.these(config, &[keys::VOCAB_SIZE])?;
    let length = config.required_count(&["intermediate_size"])?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, 0);
    keys.flag(keys::EXPERT_WEIGHTS_NORM, config.flag("norm_topk_prob"));
    if let Some(shared) = config.count(&["num_shared_experts"])?.filter(|&shared| shared > 0) {
        keys.count(keys::EXPERT_SHARED_COUNT, shared);
        keys.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length.saturating_mul(shared));
    }
    keys.count(keys::ROPE_DIMENSION_COUNT, config.rotary_length(1.0)?);
    keys.text(keys::ROPE_SCALING_TYPE, "none");
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    if h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)? > 0 {
        return Err(h.bad_key(keys::LEADING_DENSE_BLOCK_COUNT, "0"));
    }
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let mut rules = Rules::new(h);
    let shared = h.count_or(keys::EXPERT_SHARED_COUNT, 0)?;
    let shared_length = h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length.saturating_mul(shared))?;
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.routed_experts(d, length, count, "mlp");
        if shared > 0 {
            block.shared_expert(d, shared_length, "mlp.shared_experts");
        }
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    h.positive(keys::SLIDING_WINDOW)?;
    let windows = windows_after_the_first(h, PERIOD)?;
    let shared = h.count_or(keys::EXPERT_SHARED_COUNT, 0)? > 0;
    let experts = routed(h, Activation::Silu, Gating::Sigmoid, false)?;
    let experts = Experts { output_scale: if shared { 0.5 } else { 1.0 }, ..experts };
    let part = |_| FeedForward::Experts(experts.clone());
    let mut model = usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Pairs, part, |i, mixer| {
        mixer.window = windows[i];
        if windows[i].is_none() {
            mixer.rope = None;
        }
    })?;
    model.layers.iter_mut().for_each(in_parallel);
    model.logit_scale = required_factor(h, keys::LOGIT_SCALE)?;
    Ok(model)
}
