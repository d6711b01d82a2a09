//! Jamba: Mamba 1 with norms of step widths, keys and queries, attention without position embedding in some blocks, experts in
//! some.

use super::family::Family;
use super::graph::{attention, experts, gated, layer, model};
use super::{Config, Error, Hparams, Keys, Rules, TensorRule, keys, mamba};
use crate::network::{self, Activation, Gating, Mixer, ModelSpec, NormKind, Tensors};

/// The family.
pub(super) static JAMBA: Family =
    Family { keys: config_keys, ..Family::new("jamba", &["JambaForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let width = config.required_count(&["hidden_size"])?;
    let heads = i32::try_from(config.required_count(&["num_key_value_heads"])?).unwrap_or(i32::MAX);
    let [offset, period] = ["attn_layer_offset", "attn_layer_period"].map(|name| config.required_count(&[name]));
    let (offset, period) = (offset?, period?);
    if offset >= period {
        return Err(config.bad("attn_layer_offset", "less than attn_layer_period"));
    }
    keys.these(
        config,
        &[keys::BLOCK_COUNT, keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH, keys::FEED_FORWARD_LENGTH, keys::HEAD_COUNT],
    )?;
    let attends = |i: usize| i % period == offset;
    let blocks = config.block_count()?;
    keys.integers(keys::HEAD_COUNT_KV, (0..blocks).map(|i| if attends(i) { heads } else { 0 }));
    keys.count(keys::SSM_CONV_KERNEL, config.required_count(&["mamba_d_conv"])?);
    keys.count(keys::SSM_INNER_SIZE, config.required_count(&["mamba_expand"])?.saturating_mul(width));
    keys.count(keys::SSM_STATE_SIZE, config.required_count(&["mamba_d_state"])?);
    keys.count(keys::SSM_TIME_STEP_RANK, mamba::step_rank(config, "mamba_dt_rank", width)?);
    keys.these(config, &[keys::LAYER_NORM_RMS_EPSILON])?;
    keys.count(keys::EXPERT_COUNT, config.required_count(&["num_local_experts", "num_experts"])?);
    keys.count(keys::EXPERT_USED_COUNT, config.required_count(&["num_experts_per_tok"])?);
    keys.file_type();
    Ok(())
}

/// Which blocks have experts, the tensors show.
fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let (rank, state) = (h.positive(keys::SSM_TIME_STEP_RANK)?, h.positive(keys::SSM_STATE_SIZE)?);
    let mut rules = Rules::new(h);
    rules.or_of("output_norm.weight", "model.final_layernorm.weight");
    for i in 0..h.block_count {
        let hidden = h.feed_forward_length[i];
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        if h.head_count_kv[i] > 0 {
            block.attention(h, i, false);
        } else {
            mamba::mixer_rules(&mut block, h, "mamba")?;
            block.weight("ssm_dt_norm", &[rank], "mamba.dt_layernorm");
            block.weight("ssm_b_norm", &[state], "mamba.b_layernorm");
            block.weight("ssm_c_norm", &[state], "mamba.c_layernorm");
        }
        block.weight("ffn_norm", &[d], "pre_ff_layernorm");
        for (name, shape, part) in
            [("ffn_gate", [d, hidden], "gate"), ("ffn_up", [d, hidden], "up"), ("ffn_down", [hidden, d], "down")]
        {
            block.weight(name, &shape, &format!("feed_forward.{part}_proj")).optional();
        }
        block.weight("ffn_gate_inp", &[d, count], "feed_forward.router").optional();
        block.optional_experts(d, hidden, count, "feed_forward.experts", ["gate_proj", "up_proj", "down_proj"]);
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let routed = experts(h, Activation::Silu, Gating::Softmax, false)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = if h.head_count_kv[i] > 0 {
            Mixer::Attention(attention(h, i, None))
        } else {
            Mixer::Mamba1(mamba::mixer(h)?)
        };
        let has = |part: &str| weights.has(&format!("blk.{i}.{part}.weight"));
        let has_experts = has("ffn_gate_inp") || has("ffn_down_exps");
        let parts =
            if has_experts { &["ffn_gate_inp", "ffn_down_exps"][..] } else { &["ffn_gate", "ffn_up", "ffn_down"] };
        if let Some(missing) = parts.iter().find(|part| !has(part)) {
            return Err(network::Error::MissingTensor { name: format!("blk.{i}.{missing}.weight") }.into());
        }
        Ok(layer(mixer, if has_experts { routed.clone() } else { gated(Activation::Silu) }))
    });
    model(h, NormKind::Rms, layers.collect::<Result<_, Error>>()?)
}
