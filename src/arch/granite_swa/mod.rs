//! Granite with windows: Granite's model and factors, most layers slide, attention with sinks; dense, or with experts
//! beside a part that all tokens share. Some layers may be without positions.

use serde_json::Value as Json;

use super::family::Family;
use super::graph::{experts, gated, one_rope_base, windows};
use super::{Config, Error, Hparams, Keys, TensorRule, granite, keys, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

const BASES: &str = "layer_rope_theta";
const ROTATING: &str = "no_rope_layers";

/// The family.
pub(super) static GRANITE_SWA: Family = Family {
    keys: config_keys,
    settings: &[("rope_type", r#"["default"]"#)],
    ..Family::new("granite_swa", &["GraniteSWAForCausalLM", "GraniteMoeSWAForCausalLM"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    granite::keys(config, keys)?;
    let rotating = rotating(config, keys)?;
    keys.count(keys::SLIDING_WINDOW, config.required_count(&["sliding_window"])?);
    if config.layer_types().is_none() {
        return Err(Error::MissingSetting { name: "layer_types".into() });
    }
    keys.flags(keys::SLIDING_WINDOW_PATTERN, config.sliding_blocks(1)?);
    if let Some(rotating) = rotating {
        keys.flags(keys::ROPE_PATTERN, rotating);
    }
    if let Some(length) = config.count(&["shared_intermediate_size"])?.filter(|&length| length > 0) {
        keys.count(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, length);
    }
    Ok(())
}

/// Which layers rotate, where not all do: those with a base other than 0, or those of the list that older checkpoints
/// have. The one base of all that do becomes a key.
fn rotating(config: &Config, keys: &mut Keys) -> Result<Option<Vec<bool>>, Error> {
    let blocks = config.block_count()?;
    let list = |name: &str| -> Result<Option<Vec<f64>>, Error> {
        let Some(value) = config.get(name) else { return Ok(None) };
        let numbers = value.as_array().and_then(|list| list.iter().map(Json::as_f64).collect::<Option<Vec<_>>>());
        let numbers = numbers.filter(|numbers| numbers.len() == blocks);
        numbers.map(Some).ok_or_else(|| config.bad(name, "a number for each layer"))
    };
    let (bases, rotating) = (list(BASES)?, list(ROTATING)?);
    let turns = |numbers: Vec<f64>| -> Vec<bool> { numbers.iter().map(|&number| number != 0.0).collect() };
    if let Some(bases) = &bases {
        let mut own = bases.iter().copied().filter(|&base| base != 0.0);
        if let Some(base) = own.next() {
            if own.any(|other| other != base) {
                return Err(config.bad(BASES, "one base for all layers that rotate"));
            }
            keys.float(keys::ROPE_FREQ_BASE, base);
        }
    }
    let (bases, rotating) = (bases.map(turns), rotating.map(turns));
    match (bases, rotating) {
        (Some(bases), Some(rotating)) if bases != rotating => Err(config.bad(ROTATING, "the layers with a base")),
        (_, Some(rotating)) => Ok(Some(rotating)),
        (bases, None) => Ok(bases.filter(|bases| bases.contains(&false))),
    }
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.count_or(keys::EXPERT_COUNT, 0)?);
    let shared = h.count_or(keys::EXPERT_SHARED_FEED_FORWARD_LENGTH, 0)?;
    usual::tensors_of(h, true, |block, i| {
        block.tensor("attn_sinks.weight", &[h.head_count[i]], "self_attn.sinks");
        let length = h.feed_forward_length[i];
        if count == 0 {
            block.gated_ffn(d, length, "mlp");
            return Ok(());
        }
        let source = format!("model.layers.{i}.block_sparse_moe.");
        let router = block.weight("ffn_gate_inp", &[d, count], "block_sparse_moe.router");
        router.or(format!("{source}router.layer.weight"));
        let [both, down] = ["gate_up_proj", "down_proj"].map(|part| format!("block_sparse_moe.experts.{part}"));
        let [both, down] = block.joint_experts(d, length, count, &both, &down);
        both.or(format!("{source}input_linear.weight"));
        down.or(format!("{source}output_linear.weight"));
        if shared > 0 {
            block.weight("ffn_up_shexp", &[d, 2 * shared], "shared_mlp.input_linear");
            block.weight("ffn_down_shexp", &[shared, d], "shared_mlp.output_linear");
        }
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    h.positive(keys::SLIDING_WINDOW)?;
    if h.bools_per_block(keys::SLIDING_WINDOW_PATTERN)?.is_none() {
        return Err(h.bad_key(keys::SLIDING_WINDOW_PATTERN, "a boolean for each layer"));
    }
    let (windows, rotating) = (windows(h, None)?, h.bools_per_block(keys::ROPE_PATTERN)?);
    let part = match h.count_or(keys::EXPERT_COUNT, 0)? {
        0 => gated(Activation::Silu),
        _ => experts(h, Activation::Silu, Gating::SoftmaxOfChosen, false)?,
    };
    let part = |_| part.clone();
    let model = usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, part, |i, mixer| {
        mixer.window = windows[i];
        if rotating.as_ref().is_some_and(|rotating| !rotating[i]) {
            mixer.rope = None;
        }
    })?;
    granite::with_factors(h, model)
}
