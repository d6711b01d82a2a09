//! Llama 4 (Scout, Maverick): three of four layers see chunks of the sequence and rotate, every fourth sees everything and
//! has no positions, but queries that grow with them; experts whose inputs are weighed by sigmoids, beside a part that all
//! tokens share.

use serde_json::json;

use super::family::Family;
use super::graph::{gated, one_rope_base, routed, windows_or};
use super::{Config, Error, Hparams, Keys, Step, TensorRule, keys, usual};
use crate::network::{Activation, Experts, FeedForward, Gating, LengthScale, ModelSpec, NormKind, RopeStyle, Tensors};

/// Positions of a chunk. No key holds this, nor the numbers below.
const CHUNK: usize = 8192;
/// Every fourth layer sees everything.
const PERIOD: usize = 4;
/// Growth of the queries in these layers.
const GROWTH: LengthScale = LengthScale { beta: 0.1, length: 8192, offset: 1 };
/// Models with so many experts (Maverick) do not norm queries and keys.
const WITHOUT_NORMS: usize = 128;

/// The family.
pub(super) static LLAMA4: Family = Family {
    keys: config_keys,
    // Some checkpoints have a number for the truth.
    settings: &[("attn_scale", "[0.1]"), ("attn_temperature_tuning", "[true, 4]"), ("floor_scale", "[8192]")],
    ..Family::new("llama4", &["Llama4ForCausalLM", "Llama4ForConditionalGeneration"], rules, spec)
};

fn config_keys(config: &Config, keys: &mut Keys) -> Result<(), Error> {
    layers(config)?;
    keys.shared(config)?;
    let length = config.required_count(&["intermediate_size"])?;
    keys.count(keys::FEED_FORWARD_LENGTH, config.required_count(&["intermediate_size_mlp"])?);
    keys.these(config, &[keys::VOCAB_SIZE, keys::ROPE_DIMENSION_COUNT])?;
    let step = config.required_count(&["interleave_moe_layer_step"])?;
    let sparse: Vec<usize> = (0..config.block_count()?).filter(|&i| has_experts(i, step)).collect();
    config.expect("moe_layers", &json!(sparse), "each interleave_moe_layer_step-th layer")?;
    keys.count(keys::INTERLEAVE_MOE_LAYER_STEP, step);
    keys.count(keys::EXPERT_FEED_FORWARD_LENGTH, length);
    let norms = config.required_count(&["num_local_experts"])? != WITHOUT_NORMS;
    if config.flag_or("use_qk_norm", true) != norms {
        return Err(config.bad("use_qk_norm", "false with 128 experts, else true"));
    }
    Ok(())
}

/// Refuses kinds of layers in another order than the one that no key holds.
fn layers(config: &Config) -> Result<(), Error> {
    let rotates = |i: usize| !(i + 1).is_multiple_of(PERIOD);
    let blocks = config.block_count()?;
    let name = "no_rope_layers";
    let listed = config.get(name).filter(|list| list.as_array().is_none_or(|list| !list.is_empty()));
    // An interval means nothing beside a list.
    let interval = config.count(&["no_rope_layer_interval"])?;
    match listed {
        Some(list) if *list != json!((0..blocks).map(|i| u8::from(rotates(i))).collect::<Vec<_>>()) => {
            return Err(config.bad(name, "1, but 0 for each fourth layer"));
        }
        None if interval != Some(PERIOD) => return Err(config.bad("no_rope_layer_interval", "4")),
        _ => {}
    }
    let kind = |i| if rotates(i) { "chunked_attention" } else { "full_attention" };
    let kinds: Vec<&str> = (0..blocks).map(kind).collect();
    config.expect("layer_types", &json!(kinds), "chunked_attention, but full_attention for each fourth layer")?;
    match config.count(&["attention_chunk_size"])? {
        Some(CHUNK) => Ok(()),
        _ => Err(config.bad("attention_chunk_size", "8192")),
    }
}

fn has_experts(layer: usize, step: usize) -> bool {
    step > 0 && (layer + 1).is_multiple_of(step)
}

fn rules(h: &Hparams) -> Result<Vec<TensorRule>, Error> {
    let (d, count) = (h.embedding_length, h.positive(keys::EXPERT_COUNT)?);
    let (length, step) = (h.positive(keys::EXPERT_FEED_FORWARD_LENGTH)?, h.count(keys::INTERLEAVE_MOE_LAYER_STEP)?);
    usual::tensors_of(h, false, |block, i| {
        if !has_experts(i, step) {
            block.gated_ffn(d, h.feed_forward_length[i], "feed_forward");
            return Ok(());
        }
        block.weight("ffn_gate_inp", &[d, count], "feed_forward.router");
        // Inputs stand before outputs.
        for (i, name) in ["ffn_gate_exps.weight", "ffn_up_exps.weight"].into_iter().enumerate() {
            let half =
                Step::RowsOfEach { of: 2 * length, ranges: std::iter::once(i * length..(i + 1) * length).collect() };
            let rule = block.tensor(name, &[d, length, count], "feed_forward.experts.gate_up_proj");
            rule.steps(&[Step::Transpose, half]);
        }
        let down = "feed_forward.experts.down_proj";
        block.tensor("ffn_down_exps.weight", &[length, d, count], down).step(Step::Transpose);
        block.shared_expert(d, length, "feed_forward.shared_expert");
        Ok(())
    })
}

fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    one_rope_base(h)?;
    if h.count_or(keys::SLIDING_WINDOW, CHUNK)? != CHUNK {
        return Err(h.bad_key(keys::SLIDING_WINDOW, "8192"));
    }
    let chunks = windows_or(h, CHUNK, Some(PERIOD))?;
    let norms = h.positive(keys::EXPERT_COUNT)? != WITHOUT_NORMS;
    let step = h.count(keys::INTERLEAVE_MOE_LAYER_STEP)?;
    let experts = routed(h, Activation::Silu, Gating::Sigmoid, false)?;
    let experts = FeedForward::Experts(Experts { weighted_input: true, ..experts });
    let part = |i| if has_experts(i, step) { experts.clone() } else { gated(Activation::Silu) };
    usual::spec_of(h, weights, NormKind::Rms, RopeStyle::Pairs, part, |i, mixer| {
        mixer.chunk = chunks[i];
        if (i + 1).is_multiple_of(PERIOD) {
            (mixer.rope, mixer.length_scale) = (None, Some(GROWTH));
        } else {
            (mixer.plain_qk_norm, mixer.norm_after_rope) = (norms, true);
        }
    })
}
