//! DBRX: layer norms without biases, clamped queries, keys and values out of one projection, experts in every layer.

use super::family::Family;
use super::graph::experts;
use super::{Config, Error, Hparams, Keys, Rules, Step, TensorRule, keys, usual};
use crate::network::{Activation, Gating, LayerNorms, ModelSpec, NormKind, RopeStyle, Tensors};

/// The epsilon that the class computes with; no setting says it.
const EPSILON: f64 = 1e-5;
const BASE: &str = "attn_config.rope_theta";
const NORMALIZE: &str = "ffn_config.moe_normalize_expert_weights";

/// The family.
pub(super) static DBRX: Family = Family {
    keys: config_keys,
    settings: &[
        ("attn_config", "[]"),
        ("ffn_config", "[]"),
        ("ffn_config.ffn_act_fn", r#"[{"name": "silu"}]"#),
        ("rope_type", r#"["default"]"#),
    ],
    ..Family::new("dbrx", &["DbrxForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let count = |name: &str| config.required_count(&[name]);
    keys.these(config, &[keys::BLOCK_COUNT])?;
    keys.count(keys::CONTEXT_LENGTH, count("max_seq_len")?);
    keys.count(keys::EMBEDDING_LENGTH, count("d_model")?);
    keys.count(keys::FEED_FORWARD_LENGTH, count("ffn_config.ffn_hidden_size")?);
    keys.these(config, &[keys::HEAD_COUNT])?;
    keys.count(keys::HEAD_COUNT_KV, count("attn_config.kv_n_heads")?);
    let base = config.rope_number("rope_theta");
    if config.number(&[BASE])?.is_some_and(|own| base.is_some_and(|base| base != own)) {
        return Err(config.bad(BASE, "the rope_theta of rope_parameters"));
    }
    keys.float(keys::ROPE_FREQ_BASE, base.unwrap_or(10_000.0));
    keys.float(keys::CLAMP_KQV, config.number(&["attn_config.clip_qkv"])?.unwrap_or(0.0));
    keys.count(keys::EXPERT_COUNT, count("ffn_config.moe_num_experts")?);
    keys.count(keys::EXPERT_USED_COUNT, count("ffn_config.moe_top_k")?);
    // Of other norms, and of none, no key speaks.
    if config.number(&[NORMALIZE])? != Some(1.0) {
        return Err(config.bad(NORMALIZE, "1"));
    }
    // The class takes the model's width for it.
    let _ = config.get("ffn_config.hidden_size");
    keys.float(keys::LAYER_NORM_EPSILON, EPSILON);
    keys.file_type();
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let matrix = [d, h.vocab_size];
    let mut rules = Rules::with_blocks("blocks.");
    rules.add("token_embd.weight", &matrix, "wte.weight");
    rules.add("output_norm.weight", &[d], "norm_f.weight");
    rules.add("output.weight", &matrix, "lm_head.weight");
    for i in 0..h.block_count {
        let (heads, kv, length) = (h.head_count[i], h.head_count_kv[i], h.feed_forward_length[i]);
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "norm_attn_norm.norm_1");
        let rows = (heads + kv) * h.key_length + kv * h.value_length;
        block.weight("attn_qkv", &[d, rows], "norm_attn_norm.attn.Wqkv");
        block.weight("attn_output", &[heads * h.value_length, d], "norm_attn_norm.attn.out_proj");
        block.weight("attn_output_norm", &[d], "norm_attn_norm.norm_2");
        block.weight("ffn_gate_inp", &[d, count], "ffn.router.layer").in_file_type();
        // All experts are one matrix in checkpoints.
        for (name, source) in [("ffn_gate_exps.weight", "w1"), ("ffn_up_exps.weight", "v1")] {
            let source = format!("ffn.experts.mlp.{source}");
            block.tensor(name, &[d, length, count], &source).step(Step::Reshape).stored_as(&[count * length, d]);
        }
        let down = block.tensor("ffn_down_exps.weight", &[length, d, count], "ffn.experts.mlp.w2");
        down.step(Step::Transpose).stored_as(&[count * length, d]);
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let most = h.f32(keys::CLAMP_KQV)?;
    if most < 0.0 {
        return Err(h.bad_key(keys::CLAMP_KQV, "at least 0"));
    }
    let experts = experts(h, Activation::Silu, Gating::Softmax, true)?;
    let part = |_| experts.clone();
    let mut model = usual::spec_of(h, weights, NormKind::Layer, RopeStyle::Halves, part, |_, mixer| {
        mixer.clamp = Some(most).filter(|&most| most > 0.0);
    })?;
    let norms = LayerNorms { feed_forward_in: Some("attn_output_norm"), ..LayerNorms::PRE };
    model.layers.iter_mut().for_each(|layer| layer.norms = norms);
    Ok(model)
}
