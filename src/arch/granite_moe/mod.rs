//! Granite 3's experts: Granite's model and factors, experts in every block, with a part that all tokens share in some.

use super::family::Family;
use super::graph::experts;
use super::{Config, Error, Hparams, Keys, TensorRule, granite, granite_hybrid, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

/// The family.
pub(super) static GRANITE_MOE: Family = Family {
    keys: config_keys,
    ..Family::new("granitemoe", &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    granite::keys(config, keys)?;
    let shared = config.count(&["shared_intermediate_size"])?.filter(|&length| length > 0);
    if let Some(length) = shared {
        keys.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length);
    }
    Ok(())
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    h.positive(keys::EXPERT_COUNT)?;
    usual::tensors_of(h, true, |block, i| granite_hybrid::feed_forward(block, h, i))
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let experts = experts(h, Activation::Silu, Gating::SoftmaxOfChosen, false)?;
    let model = usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, |_| experts.clone(), |_, _| {})?;
    granite::with_factors(h, model)
}
