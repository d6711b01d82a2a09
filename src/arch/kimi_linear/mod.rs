//! Kimi Linear: delta attention with a decay for each element of a key, latent attention without position embedding in every
//! fourth block; experts behind the first blocks.

mod config;

use super::deepseek2::Latent;
use super::family::Family;
use super::graph::{dense_then_experts, layer, model};
use super::{BlockRules, Error, Hparams, Rules, Step, TensorRule, keys};
use crate::network::{Activation, Gating, KimiDeltaMixer, Mixer, ModelSpec, NormKind, Tensors};

/// The family.
pub(super) static KIMI_LINEAR: Family = Family {
    keys: config::keys,
    settings: &[
        ("layer_types", r#"["linear_attention", "full_attention"]"#),
        ("mla_use_nope", "[true]"),
        ("moe_renormalize", "[true]"),
        ("moe_router_activation_func", r#"["sigmoid"]"#),
    ],
    ..Family::new("kimi-linear", &["KimiLinearForCausalLM"], rules, spec)
};

/// Delta attention, as the keys describe it.
fn delta(h: &Hparams, index: usize) -> Result<KimiDeltaMixer, Error> {
    let (heads, dim) = (h.head_count[index], h.positive(keys::KDA_HEAD_DIM)?);
    if heads == 0 {
        return Err(h.bad_key(keys::HEAD_COUNT, "more than 0"));
    }
    Ok(KimiDeltaMixer { heads, dim, taps: h.positive(keys::SSM_CONV_KERNEL)? })
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let latent = Latent::new(h)?;
    let dense = h.count_or(keys::LEADING_DENSE_BLOCK_COUNT, 0)?;
    let shared = h.count(keys::EXPERT_SHARED_COUNT)?.max(1);
    let mut rules = Rules::new(h);
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        if h.head_count_kv[i] > 0 {
            latent.rules(&mut block, d, h.head_count[i]);
        } else {
            delta_rules(&mut block, d, delta(h, i)?);
        }
        block.weight("ffn_norm", &[d], "post_attention_layernorm");
        if i < dense {
            block.gated_ffn(d, h.feed_forward_length[i], "mlp");
            continue;
        }
        let (count, hidden) = (h.positive(keys::EXPERT_COUNT)?, h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?);
        let moe = "block_sparse_moe";
        block.experts(d, hidden, count, &format!("{moe}.experts"), ["w1", "w3", "w2"]);
        block.tensor("exp_probs_b.bias", &[count], &format!("{moe}.gate.e_score_correction_bias"));
        block.weight("ffn_gate_inp", &[d, count], &format!("{moe}.gate"));
        block.shared_expert(d, shared * hidden, &format!("{moe}.shared_experts"));
    }
    Ok(rules.finish())
}

fn delta_rules(block: &mut BlockRules<'_>, d: usize, delta: KimiDeltaMixer) {
    let KimiDeltaMixer { heads, dim, taps } = delta;
    let inner = heads * dim;
    for part in ["q", "k", "v"] {
        let conv = format!("self_attn.{part}_conv1d");
        block
            .weight(&format!("ssm_conv1d_{part}"), &[taps, 1, inner, 1], &conv)
            .step(Step::Reshape)
            .stored_as(&[inner, 1, taps]);
        block.weight(&format!("attn_{part}"), &[d, inner], &format!("self_attn.{part}_proj"));
    }
    for part in ["f", "g"] {
        block.weight(&format!("ssm_{part}_a"), &[d, dim], &format!("self_attn.{part}_a_proj"));
        block.weight(&format!("ssm_{part}_b"), &[dim, inner], &format!("self_attn.{part}_b_proj"));
    }
    block.weight("ssm_beta", &[d, heads], "self_attn.b_proj");
    let decay = block.tensor("ssm_a", &[1, heads, 1, 1], "self_attn.A_log");
    decay.steps(&[Step::Reshape, Step::NegExp]).stored_as(&[1, 1, heads, 1]);
    block.tensor("ssm_dt.bias", &[inner], "self_attn.dt_bias");
    block.weight("ssm_norm", &[dim], "self_attn.o_norm");
    block.weight("attn_output", &[inner, d], "self_attn.o_proj");
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let latent = Latent::new(h)?;
    let parts = dense_then_experts(h, Activation::Silu, Gating::Sigmoid, true)?;
    let layers = parts.into_iter().enumerate().map(|(i, part)| {
        let mixer = if h.head_count_kv[i] > 0 {
            latent.mixer(h.head_count[i], latent.scale(), None)
        } else {
            Mixer::KimiDelta(delta(h, i)?)
        };
        Ok(layer(mixer, part))
    });
    model(h, NormKind::Rms, layers.collect::<Result<_, Error>>()?)
}
