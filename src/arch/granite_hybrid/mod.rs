//! Granite 4 hybrids, and Bamba, from which they come: Mamba 2, and attention in some blocks; dense or with experts and a shared part.

mod config;
mod graph;
mod tensors;

pub(super) use tensors::{feed_forward, mixer};

use super::family::Family;
use super::{Error, Hparams, keys};
use crate::network::Mamba2Mixer;

const BAMBA: &str = "BambaForCausalLM";

/// The family.
pub(super) static GRANITE_HYBRID: Family = Family {
    keys: |config, keys| {
        if config.class() == BAMBA { config::bamba_keys(config, keys) } else { config::keys(config, keys) }
    },
    settings: &[
        ("layer_types", r#"["attention", "full_attention", "linear_attention", "mamba"]"#),
        ("position_embedding_type", r#"["nope", "rope"]"#),
    ],
    ..Family::new("granitehybrid", &["GraniteMoeHybridForCausalLM", BAMBA], tensors::rules, graph::spec)
};

/// The Mamba 2 mixers, as the keys describe them.
pub(super) fn mamba(h: &Hparams) -> Result<Mamba2Mixer, Error> {
    let (groups, heads) = (h.positive(keys::SSM_GROUP_COUNT)?, h.positive(keys::SSM_TIME_STEP_RANK)?);
    if !heads.is_multiple_of(groups) {
        return Err(h.bad_key(keys::SSM_GROUP_COUNT, "a divisor of ssm.time_step_rank"));
    }
    let inner = h.positive(keys::SSM_INNER_SIZE)?;
    if !inner.is_multiple_of(heads) {
        return Err(h.bad_key(keys::SSM_INNER_SIZE, "a multiple of ssm.time_step_rank"));
    }
    let (k_dim, taps) = (h.positive(keys::SSM_STATE_SIZE)?, h.positive(keys::SSM_CONV_KERNEL)?);
    Ok(Mamba2Mixer { heads, groups, k_dim, v_dim: inner / heads, taps })
}
