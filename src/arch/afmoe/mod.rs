//! Arcee's Trinity: norms around each part, a gate of the attention's result, most blocks slide and only these rotate;
//! dense blocks first, then experts chosen by sigmoids with a shared part.

use super::family::Family;
use super::graph::{dense_then_experts, one_rope_base, windows};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, Gating, LayerNorms, ModelSpec, NormKind, RopeStyle, Tensors};

/// Every fourth block sees everything.
const PERIOD: usize = 4;

/// The family.
pub(super) static AFMOE: Family = Family {
    keys: config_keys,
    settings: &[
        ("global_attn_every_n_layers", "[4]"),
        ("mup_enabled", "[true]"),
        ("num_expert_groups", "[1]"),
        ("num_limited_groups", "[1]"),
        ("rope_type", r#"["default"]"#),
    ],
    ..Family::new("afmoe", &["AfmoeForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    config.expect("score_func", &serde_json::json!("sigmoid"), "sigmoid")?;
    keys.shared(config)?;
    keys.these(config, &[keys::VOCAB_SIZE, keys::ROPE_DIMENSION_COUNT])?;
    keys.count(keys::EXPERT_SHARED_COUNT, config.required_count(&["num_shared_experts"])?);
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, config.required_count(&["moe_intermediate_size"])?);
    keys.count(keys::LEADING_DENSE_BLOCK_COUNT, config.required_count(&["num_dense_layers"])?);
    config.expect("route_norm", &serde_json::json!(true), "true")?;
    keys.flag(keys::EXPERT_WEIGHTS_NORM, true);
    keys.float(keys::EXPERT_WEIGHTS_SCALE, config.number(&["route_scale"])?.unwrap_or(1.0));
    keys.sliding_window(config)?;
    keys.unusual_pattern(config, PERIOD)?;
    keys.count(keys::EXPERT_GATING_FUNC, 2);
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let (count, length) = (h.positive(keys::EXPERT_COUNT)?, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?);
    let shared = length * h.count(keys::EXPERT_SHARED_COUNT)?;
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, i, false);
        block.weight("attn_gate", &[d, h.head_count[i] * h.value_length], "self_attn.gate_proj");
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        block.weight("post_attention_norm", &[d], "post_attention_layernorm");
        block.weight("ffn_norm", &[d], "pre_mlp_layernorm");
        block.weight("post_ffw_norm", &[d], "post_mlp_layernorm");
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            continue;
        }
        block.weight("ffn_gate_inp", &[d, count], "mlp.router.gate");
        block.tensor("exp_probs_b.bias", &[count], "mlp.expert_bias");
        block.joined_experts(d, length, count, "mlp.experts", ["gate_proj", "up_proj", "down_proj"]);
        if shared > 0 {
            block.shared_expert(d, shared, "mlp.shared_experts");
        }
    }
    Ok(rules.finish())
}

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    h.positive(keys::SLIDING_WINDOW)?;
    let windows = windows(h, Some(PERIOD))?;
    let parts = dense_then_experts(h, Activation::Silu, Gating::Sigmoid, false)?;
    let part = |i: usize| parts[i].clone();
    let mut model = usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, part, |i, mixer| {
        mixer.window = windows[i];
        if windows[i].is_none() {
            mixer.rope = None;
        }
    })?;
    model.layers.iter_mut().for_each(|layer| layer.norms = LayerNorms::SANDWICH);
    model.embedding_scale = (h.embedding_length as f32).sqrt();
    Ok(model)
}
