//! Hunyuan 3 (Hy3): normed query and key heads, dense layers first, then experts chosen by sigmoids with a shared part.

use super::family::Family;
use super::graph::{dense_or_experts, experts, gated, layer, predicting};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, usual};
use crate::network::{Activation, FeedForward, Gating, LayerSpec, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static HY_V3: Family = Family {
    keys: config_keys,
    settings: &[("qk_norm", "[true]")],
    predicting_blocks: usual::predicting_blocks,
    ..Family::new("hy_v3", &["HYV3ForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    // Files do not say which layers are dense, but have their tensors.
    config.leading_dense_blocks()?;
    keys.shared(config)?;
    let length = config.required_count(&["moe_intermediate_size"])?;
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
    let shared = config.count(&["num_shared_experts"])?.unwrap_or(1);
    keys.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length.saturating_mul(shared));
    keys.flag(keys::EXPERT_WEIGHTS_NORM, config.flag_or("route_norm", true));
    keys.float(keys::EXPERT_WEIGHTS_SCALE, config.number(&["router_scaling_factor"])?.unwrap_or(1.0));
    keys.count(keys::EXPERT_GATING_FUNC, 2);
    if let Some(count) = config.predicting_blocks().filter(|&count| count > 0) {
        keys.count(keys::NEXTN_PREDICT_LAYERS, count);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let length = h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?;
    let shared = match h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)? {
        0 => length,
        shared => shared,
    };
    let mut rules = Rules::new(h);
    rules.add_rope_factors("rope_freqs.weight", h.count_or(keys::ROPE_DIMENSION_COUNT, h.key_length)? / 2);
    for (i, like) in h.all_blocks() {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        block.attention(h, like, false);
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        block.optionally(|block| {
            block.gated_ffn(d, h.feed_forward_length[like], "mlp");
            block.weight("ffn_gate_inp", &[d, count], "mlp.router.gate");
            block.tensor("exp_probs_b", &[count], "mlp.expert_bias");
            block.experts(d, length, count, "mlp.experts", ["gate_proj", "up_proj", "down_proj"]);
            block.shared_expert(d, shared, "mlp.shared_mlp");
        });
        if i >= h.block_count {
            let name = |part: &str| if part == "shared_head_norm" { "final_layernorm" } else { part }.to_owned();
            block.prediction(h, |part| format!("model.layers.{i}.{}", name(part)), &[]);
        }
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let experts = experts(h, Activation::Silu, Gating::Sigmoid, false)?;
    let parts: Vec<FeedForward> = dense_or_experts(h, weights, Activation::Silu, &experts)?;
    let part = |i: usize| parts[i].clone();
    let model = usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, part, |_, _| {})?;
    // Heads are those of every layer.
    let Some(LayerSpec { mixer, .. }) = model.layers.last().cloned() else { return Ok(model) };
    let routed = weights.has(&format!("blk.{}.ffn_gate_inp.weight", h.block_count));
    Ok(predicting(h, model, || layer(mixer, if routed { experts } else { gated(Activation::Silu) })))
}
