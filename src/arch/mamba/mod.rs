//! Mamba 1, and Falcon Mamba, which norms step widths, keys and queries: nothing but a selective scan in every block.

use serde_json::{Value as Json, json};

use super::family::Family;
use super::graph::{layer, model};
use super::usual::UNBOUNDED_CONTEXT;
use super::{BlockRules, Config, Error, Hparams, Keys, Rules, Step, TensorRule, keys};
use crate::network::{FeedForward, LayerNorms, LayerSpec, Mamba1Mixer, Mixer, ModelSpec, NormKind, Tensors};

const FALCON: &str = "FalconMambaForCausalLM";

/// The family.
pub(super) static MAMBA: Family =
    Family { keys: config_keys, ..Family::new("mamba", &["MambaForCausalLM", FALCON], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let width = config.required_count(&["hidden_size"])?;
    let inner = config.required_count(&["expand"])?.saturating_mul(width);
    config.expect("intermediate_size", &json!(inner), "expand times hidden_size")?;
    keys.count(keys::CONTEXT_LENGTH, UNBOUNDED_CONTEXT);
    keys.these(config, &[keys::EMBEDDING_LENGTH])?;
    // llama.cpp wants these two.
    keys.count(keys::FEED_FORWARD_LENGTH, 0);
    keys.count(keys::HEAD_COUNT, 0);
    keys.these(config, &[keys::BLOCK_COUNT])?;
    keys.count(keys::SSM_CONV_KERNEL, config.required_count(&["conv_kernel"])?);
    keys.count(keys::SSM_INNER_SIZE, inner);
    keys.count(keys::SSM_STATE_SIZE, config.required_count(&["state_size"])?);
    keys.count(keys::SSM_TIME_STEP_RANK, step_rank(config, "time_step_rank", width)?);
    let name = "layer_norm_epsilon";
    let epsilon = config.number(&[name])?.ok_or_else(|| config.bad(name, "a number"))?;
    keys.float(keys::LAYER_NORM_RMS_EPSILON, epsilon);
    keys.flag(keys::SSM_DT_B_C_RMS, config.class() == FALCON);
    // The reference takes the epsilon of the other norms.
    if config.class() == FALCON
        && let Some(own) = config.number(&["mixer_rms_eps"])?.filter(|&own| own != epsilon)
    {
        keys.float(keys::SSM_DT_B_C_RMS_EPSILON, own);
    }
    keys.file_type();
    Ok(())
}

/// The rank of step widths: a sixteenth of the residual stream's length where the setting leaves it open.
///
/// # Errors
/// When it is neither a count nor `auto`.
pub(super) fn step_rank(config: &Config, name: &str, width: usize) -> Result<usize, Error> {
    match config.get(name) {
        Some(Json::String(text)) if text == "auto" => Ok(width.div_ceil(16)),
        _ => config.required_count(&[name]),
    }
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    backbone(h, |block| mixer_rules(block, h, "mixer"))
}

/// The tensors of a model whose blocks are a norm and what `mixer` adds.
///
/// # Errors
/// When `mixer` fails.
pub(super) fn backbone(
    h: &Hparams,
    mixer: impl Fn(&mut BlockRules<'_>) -> Result<(), Error>,
) -> Result<Vec<TensorRule>, Error> {
    let d = h.embedding_length;
    let mut rules = Rules::with_blocks("backbone.layers.");
    rules.add("token_embd.weight", &[d, h.vocab_size], "backbone.embeddings.weight");
    rules.add("output_norm.weight", &[d], "backbone.norm_f.weight");
    rules.add("output.weight", &[d, h.vocab_size], "lm_head.weight").optional();
    for i in 0..h.block_count {
        let mut block = rules.block(i);
        block.weight("attn_norm", &[d], "norm");
        mixer(&mut block)?;
    }
    Ok(rules.finish())
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    of_mixers(h, Mixer::Mamba1(mixer(h)?))
}

/// The network that is nothing but `mixer` behind a norm in every block.
///
/// # Errors
/// When a key is unfit.
pub(super) fn of_mixers(h: &Hparams, mixer: Mixer) -> Result<ModelSpec, Error> {
    let norms = LayerNorms { feed_forward_in: None, ..LayerNorms::PRE };
    let layer = LayerSpec { norms, ..layer(mixer, FeedForward::None) };
    model(h, NormKind::Rms, vec![layer; h.block_count])
}

/// The mixers, as the keys describe them.
pub(super) fn mixer(h: &Hparams) -> Result<Mamba1Mixer, Error> {
    let plain_norms = if h.bool_or(keys::SSM_DT_B_C_RMS, false)? {
        let epsilon = h.f32_or(keys::SSM_DT_B_C_RMS_EPSILON, h.f32(keys::LAYER_NORM_RMS_EPSILON)?)?;
        if !(0.0..1.0).contains(&epsilon) {
            return Err(h.bad_key(keys::SSM_DT_B_C_RMS_EPSILON, "at least 0 and less than 1"));
        }
        Some(epsilon)
    } else {
        None
    };
    Ok(Mamba1Mixer {
        channels: h.positive(keys::SSM_INNER_SIZE)?,
        state: h.positive(keys::SSM_STATE_SIZE)?,
        rank: h.positive(keys::SSM_TIME_STEP_RANK)?,
        taps: h.positive(keys::SSM_CONV_KERNEL)?,
        plain_norms,
    })
}

/// The tensors of a block's mixer, `source` in the checkpoint.
pub(super) fn mixer_rules(block: &mut BlockRules<'_>, h: &Hparams, source: &str) -> Result<(), Error> {
    let d = h.embedding_length;
    let Mamba1Mixer { channels, state, rank, taps, .. } = mixer(h)?;
    block.linear("ssm_in", [d, 2 * channels], &format!("{source}.in_proj"), &[]);
    block.convolution("ssm_conv1d", taps, channels, &format!("{source}.conv1d"));
    block.weight("ssm_x", &[channels, rank + 2 * state], &format!("{source}.x_proj"));
    block.linear("ssm_dt", [rank, channels], &format!("{source}.dt_proj"), &[]);
    block.tensor("ssm_a", &[state, channels], &format!("{source}.A_log")).step(Step::NegExp);
    block.tensor("ssm_d", &[channels], &format!("{source}.D"));
    block.linear("ssm_out", [channels, d], &format!("{source}.out_proj"), &[]);
    Ok(())
}
