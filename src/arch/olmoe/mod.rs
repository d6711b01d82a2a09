//! OLMoE: queries and keys normed over all heads together, experts in every block, weights as the router gives them.

use super::family::Family;
use super::graph::experts;
use super::{Config, Error, Hparams, Keys, TensorRule, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static OLMOE: Family =
    Family { keys: config_keys, ..Family::new("olmoe", &["OlmoeForCausalLM"], rules, spec) };

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    keys.shared(config)?;
    if config.flag("norm_topk_prob") {
        keys.flag(keys::EXPERT_WEIGHTS_NORM, true);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let experts = h.positive(keys::EXPERT_COUNT)?;
    usual::tensors_of(h, false, |block, i| {
        block.whole_norms(h, i);
        block.routed_experts(h.embedding_length, h.feed_forward_length[i], experts, "mlp");
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let experts = experts(h, Activation::Silu, Gating::Softmax, false)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, |_| experts.clone(), |_, _| {})
}
