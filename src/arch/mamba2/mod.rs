//! Mamba 2: nothing but its recurrence in every block.

use super::family::Family;
use super::usual::UNBOUNDED_CONTEXT;
use super::{Config, Error, Hparams, Keys, TensorRule, granite_hybrid, keys, mamba};
use crate::network::{Mixer, ModelSpec, Tensors};

/// The family.
pub(super) static MAMBA2: Family =
    Family { keys: config_keys, ..Family::new("mamba2", &["Mamba2ForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let (heads, head) = (config.required_count(&["num_heads"])?, config.required_count(&["head_dim"])?);
    let (width, expand) = (config.required_count(&["hidden_size"])?, config.required_count(&["expand"])?);
    if heads.checked_mul(head) != width.checked_mul(expand) {
        return Err(config.bad("head_dim", "expand times hidden_size over num_heads"));
    }
    keys.count(keys::CONTEXT_LENGTH, UNBOUNDED_CONTEXT);
    keys.these(config, &[keys::EMBEDDING_LENGTH])?;
    // llama.cpp wants these two.
    keys.count(keys::FEED_FORWARD_LENGTH, 0);
    keys.count(keys::HEAD_COUNT, 0);
    keys.these(config, &[keys::BLOCK_COUNT])?;
    keys.count(keys::SSM_CONV_KERNEL, config.required_count(&["conv_kernel"])?);
    keys.count(keys::SSM_INNER_SIZE, heads.saturating_mul(head));
    keys.count(keys::SSM_STATE_SIZE, config.required_count(&["state_size"])?);
    keys.count(keys::SSM_TIME_STEP_RANK, heads);
    keys.count(keys::SSM_GROUP_COUNT, config.required_count(&["n_groups"])?);
    let epsilon = config.number(&["layer_norm_epsilon"])?;
    keys.float(keys::LAYER_NORM_RMS_EPSILON, epsilon.ok_or_else(|| config.bad("layer_norm_epsilon", "a number"))?);
    keys.file_type();
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    mamba::backbone(h, |block| granite_hybrid::mixer(block, h, "mixer"))
}

fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    mamba::of_mixers(h, Mixer::Mamba2(granite_hybrid::mamba(h)?))
}
