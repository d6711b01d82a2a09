//! The text parts of Qwen 2, 2.5 and 3 VL: Qwen's models, whose positions have three parts (time, height and width). In
//! texts these are the same, so that each pair turns by the position as always.

use super::family::Family;
use super::graph::experts;
use super::settings::Setting;
use super::{Config, Error, Hparams, Keys, Step, TensorRule, keys, qwen, usual};
use crate::network::{Activation, Gating, ModelSpec, NormKind, RopeStyle, Tensors};

const SETTINGS: &[Setting] = &[("rope_type", r#"["default", "mrope"]"#)];

/// Qwen 2 VL and 2.5 VL.
pub(super) static QWEN2_VL: Family = Family {
    keys: |config, keys| {
        sections(config)?;
        qwen::keys(config, keys)
    },
    settings: SETTINGS,
    ..Family::new(
        "qwen2vl",
        &["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"],
        |h| usual::tensors(h, false),
        |h, weights| {
            check_sections(h)?;
            usual::spec(h, weights, RopeStyle::Halves)
        },
    )
};

/// Qwen 3 VL, dense.
pub(super) static QWEN3_VL: Family = Family {
    keys: |config, keys| {
        sections(config)?;
        qwen::keys(config, keys)?;
        deepstack(config, keys)
    },
    settings: SETTINGS,
    ..Family::new(
        "qwen3vl",
        &["Qwen3VLForConditionalGeneration"],
        |h| usual::tensors_and(h, false, |block| block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm")),
        |h, weights| {
            check_sections(h)?;
            usual::spec(h, weights, RopeStyle::Halves)
        },
    )
};

/// Qwen 3 VL with experts.
pub(super) static QWEN3_VL_MOE: Family = Family {
    keys: |config, keys| {
        sections(config)?;
        keys.shared(config)?;
        keys.expert_lengths(config)?;
        deepstack(config, keys)
    },
    settings: SETTINGS,
    ..Family::new("qwen3vlmoe", &["Qwen3VLMoeForConditionalGeneration"], moe_rules, moe_spec)
};

/// How many layers of the image part feed the text part where the settings do not say it.
const DEEPSTACK_LAYERS: usize = 3;

/// Refuses a checkpoint that does not say which pairs turn by which part of a position.
fn sections(config: &Config) -> Result<(), Error> {
    let name = "rope_parameters.mrope_section";
    config.rotary("mrope_section").map(|_| ()).ok_or_else(|| Error::MissingSetting { name: name.into() })
}

/// How many layers of the image part feed layers of the text part, which changes nothing in texts.
fn deepstack(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    let layers = config.get("vision_config").and_then(|vision| vision.get("deepstack_visual_indexes"));
    let layers = layers.map_or(Some(DEEPSTACK_LAYERS), |layers| layers.as_array().map(Vec::len));
    keys.count(keys::N_DEEPSTACK_LAYERS, layers.ok_or_else(|| config.bad("vision_config", "a list of layers"))?);
    Ok(())
}

fn check_sections(h: &Hparams) -> Result<(), Error> {
    h.count_or(keys::N_DEEPSTACK_LAYERS, 0)?;
    let sections = h.get(keys::ROPE_DIMENSION_SECTIONS).and_then(crate::gguf::Value::as_array);
    match sections.and_then(crate::gguf::Array::to_i64s) {
        Some(sections) if sections.len() >= 3 && sections.iter().all(|&section| section >= 0) => Ok(()),
        _ => Err(h.bad_key(keys::ROPE_DIMENSION_SECTIONS, "three counts of pairs, or more")),
    }
}

/// Checkpoints have all experts of a block in two tensors, inputs before outputs.
fn moe_rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count, hidden) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?, h.expert_length()?);
    usual::tensors_of(h, false, |block, _| {
        block.head_norms(h, "self_attn.q_norm", "self_attn.k_norm");
        block.weight("ffn_gate_inp", &[d, count], "mlp.gate");
        for (start, name) in [(0, "ffn_gate_exps.weight"), (hidden, "ffn_up_exps.weight")] {
            let rows = start..start + hidden;
            let half = Step::RowsOfEach { of: 2 * hidden, ranges: vec![rows] };
            let rule = block.tensor(name, &[d, hidden, count], "mlp.experts.gate_up_proj");
            rule.steps(&[Step::Transpose, half]);
        }
        block.tensor("ffn_down_exps.weight", &[hidden, d, count], "mlp.experts.down_proj").step(Step::Transpose);
        Ok(())
    })
}

fn moe_spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    check_sections(h)?;
    let experts = experts(h, Activation::Silu, Gating::Softmax, true)?;
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Halves, |_| experts.clone(), |_, _| {})
}
