//! Falcon H1: attention and Mamba 2 side by side in every block. Its many multipliers are in the weights of files.

use super::family::Family;
use super::graph::{attention, gated, layer, model, rope};
use super::{BlockRules, Config, Error, Hparams, Keys, Rules, Step, TensorRule, granite_hybrid, keys};
use crate::network::{Activation, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

const ATTENTION_IN: Step = Step::multiplier("attention_in_multiplier");

/// The family.
pub(super) static FALCON_H1: Family =
    Family { keys: config_keys, ..Family::new("falcon-h1", &["FalconH1ForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let width = config.required_count(&["hidden_size"])?;
    let heads = config.required_count(&["mamba_n_heads"])?;
    let expanded = config.required_count(&["mamba_expand"])?.saturating_mul(width);
    let inner = config.count(&["mamba_d_ssm"])?.unwrap_or(expanded);
    let (normed, first) = (config.flag("mamba_rms_norm"), config.flag("mamba_norm_before_gate"));
    if normed && first {
        return Err(config.bad("mamba_norm_before_gate", "false where mamba_rms_norm is true"));
    }
    for (name, items) in MULTIPLIERS {
        (0..*items).try_for_each(|item| config.multiplier(name, item).map(|_| ()))?;
    }
    keys.these(
        config,
        &[keys::CONTEXT_LENGTH, keys::EMBEDDING_LENGTH, keys::FEED_FORWARD_LENGTH, keys::HEAD_COUNT, keys::BLOCK_COUNT],
    )?;
    keys.count(keys::SSM_CONV_KERNEL, config.required_count(&["mamba_d_conv"])?);
    keys.count(keys::SSM_INNER_SIZE, inner);
    keys.count(keys::SSM_STATE_SIZE, config.required_count(&["mamba_d_state"])?);
    keys.count(keys::SSM_TIME_STEP_RANK, heads);
    keys.count(keys::SSM_GROUP_COUNT, config.required_count(&["mamba_n_groups"])?);
    keys.these(config, &[keys::LAYER_NORM_RMS_EPSILON])?;
    keys.file_type();
    keys.these(config, &[keys::VOCAB_SIZE, keys::HEAD_COUNT_KV, keys::KEY_LENGTH, keys::VALUE_LENGTH])?;
    keys.float(keys::ROPE_FREQ_BASE, config.rope_number("rope_theta").unwrap_or(10_000.0));
    // A matrix that is the embedding too has the embedding's multiplier, which the reference passes over.
    let (embedding, output) =
        (config.multiplier("embedding_multiplier", 0)?, config.multiplier("lm_head_multiplier", 0)?);
    if config.tied() == Some(true) && embedding != output {
        keys.float(keys::LOGIT_SCALE, f64::from(output) / f64::from(embedding));
    }
    Ok(())
}

/// Settings that weights are multiplied by, and how many numbers they hold.
const MULTIPLIERS: &[(&str, usize)] = &[
    ("attention_in_multiplier", 1),
    ("attention_out_multiplier", 1),
    ("embedding_multiplier", 1),
    ("key_multiplier", 1),
    ("lm_head_multiplier", 1),
    ("mlp_multipliers", 2),
    ("ssm_in_multiplier", 1),
    ("ssm_multipliers", 5),
    ("ssm_out_multiplier", 1),
];

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, k) = (h.embedding_length, h.key_length);
    let mut rules = Rules::new(h);
    rules.or_of("output_norm.weight", "model.final_layernorm.weight");
    rules.steps_of("token_embd.weight", &[Step::multiplier("embedding_multiplier")]);
    rules.steps_of("output.weight", &[Step::multiplier("lm_head_multiplier")]);
    for i in 0..h.block_count {
        let (heads, kv_heads, hidden) = (h.head_count[i], h.head_count_kv[i], h.feed_forward_length[i]);
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "input_layernorm");
        let key = Step::multiplier("key_multiplier");
        linear(&mut block, "attn_q", [d, heads * k], "self_attn.q_proj", &[ATTENTION_IN], &[]);
        linear(&mut block, "attn_k", [d, kv_heads * k], "self_attn.k_proj", &[key.clone(), ATTENTION_IN], &[key]);
        linear(&mut block, "attn_v", [d, kv_heads * h.value_length], "self_attn.v_proj", &[ATTENTION_IN], &[]);
        let out = [Step::multiplier("attention_out_multiplier")];
        block.linear("attn_output", [heads * h.value_length, d], "self_attn.o_proj", &out);
        mamba(&mut block, h)?;
        // The only weight whose name has no ending.
        block.tensor("ffn_norm", &[d], "pre_ff_layernorm.weight");
        let part = |item| [Step::Multiplier { rows: None, setting: "mlp_multipliers", item }];
        block.linear("ffn_gate", [d, hidden], "feed_forward.gate_proj", &part(0));
        block.linear("ffn_up", [d, hidden], "feed_forward.up_proj", &[]);
        block.linear("ffn_down", [hidden, d], "feed_forward.down_proj", &part(1));
    }
    Ok(rules.finish())
}

/// A weight with `steps`, and its bias, which the input's multiplier does not touch, with those in `of_bias`.
fn linear(block: &mut BlockRules<'_>, name: &str, shape: [usize; 2], source: &str, steps: &[Step], of_bias: &[Step]) {
    block.weight(name, &shape, source).steps(steps);
    block.tensor(&format!("{name}.bias"), &shape[1..], &format!("{source}.bias")).optional().steps(of_bias);
}

fn mamba(block: &mut BlockRules<'_>, h: &Hparams) -> Result<(), Error> {
    let d = h.embedding_length;
    let spec = granite_hybrid::mamba(h)?;
    let (inner, keys) = (spec.heads * spec.v_dim, spec.groups * spec.k_dim);
    // Gate, values, keys, queries and step widths.
    let ends = [inner, 2 * inner, 2 * inner + keys, 2 * (inner + keys), 2 * (inner + keys) + spec.heads];
    let starts = std::iter::once(0).chain(ends);
    let parts = starts.zip(ends).enumerate().map(|(item, (start, end))| Step::Multiplier {
        rows: Some(start..end),
        setting: "ssm_multipliers",
        item,
    });
    let parts: Vec<Step> = parts.collect();
    let steps: Vec<Step> = [Step::multiplier("ssm_in_multiplier")].into_iter().chain(parts.clone()).collect();
    linear(block, "ssm_in", [d, ends[4]], "mamba.in_proj", &steps, &parts);
    block.convolution("ssm_conv1d", spec.taps, inner + 2 * keys, "mamba.conv1d");
    block.tensor("ssm_dt.bias", &[spec.heads], "mamba.dt_bias");
    block.tensor("ssm_a", &[1, spec.heads], "mamba.A_log").step(Step::NegExp).stored_as(&[spec.heads]);
    block.tensor("ssm_d", &[1, spec.heads], "mamba.D").stored_as(&[spec.heads]);
    let norm = block.weight("ssm_norm", &[inner / spec.groups, spec.groups], "mamba.norm");
    norm.step(Step::Reshape).stored_as(&[inner]).optional();
    block.linear("ssm_out", [inner, d], "mamba.out_proj", &[Step::multiplier("ssm_out_multiplier")]);
    Ok(())
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let mamba = granite_hybrid::mamba(h)?;
    let layers = (0..h.block_count).map(|i| {
        let mixer = Mixer::AttentionAndMamba2(attention(h, i, Some(rope.clone())), mamba);
        layer(mixer, gated(Activation::Silu))
    });
    let spec = model(h, NormKind::Rms, layers.collect())?;
    let logit_scale = h.f32_or(keys::LOGIT_SCALE, 1.0)?;
    let tied = !weights.has("output.weight");
    Ok(ModelSpec { logit_scale: if tied && logit_scale != 0.0 { logit_scale } else { 1.0 }, ..spec })
}
