//! The scaling of the rotary embedding in the form of `config.json` (`rope_scaling`).

use serde_json::{Value as Json, json};

use super::error::{Error, TensorProblem};
use super::source::{Source, float, share};
use crate::arch::{Config, keys, rope_factors};
use crate::gguf::Value;

/// The tensor with Llama 3's factors, which files have instead of the settings.
const FACTORS: &str = "rope_freqs.weight";
const LONG: &str = "rope_factors_long.weight";
const SHORT: &str = "rope_factors_short.weight";

/// The setting, if the embedding is scaled.
pub(super) fn scaling(source: &Source<'_>) -> Result<Option<Json>, Error> {
    let h = &source.header.hparams;
    if source.has(LONG) || source.has(SHORT) {
        let list = |name| Ok::<_, Error>(source.values(name)?.into_iter().map(float).collect::<Vec<_>>());
        // Transformers 4 accepts no other names here.
        return Ok(Some(json!({ "type": "longrope", "long_factor": list(LONG)?, "short_factor": list(SHORT)? })));
    }
    if source.has(FACTORS) {
        return match still_pairs(&source.values(FACTORS)?) {
            Some(share) => Ok(Some(json!({ "rope_type": "proportional", "partial_rotary_factor": share }))),
            None => llama3(source).map(Some),
        };
    }
    let number = |key: &str| match h.get(key) {
        Some(Value::F32(number)) => Some(float(*number)),
        Some(value) => value.as_u64().map(Json::from),
        None => None,
    };
    let kind = h.get(keys::ROPE_SCALING_TYPE).and_then(Value::as_str).unwrap_or("none");
    if kind == "none" {
        return Ok(None);
    }
    let mut scaling = json!({ "rope_type": kind });
    for (name, key) in [
        ("factor", keys::ROPE_SCALING_FACTOR),
        ("original_max_position_embeddings", keys::ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH),
        ("extrapolation_factor", keys::ROPE_SCALING_YARN_EXT_FACTOR),
        ("attention_factor", keys::ROPE_SCALING_YARN_ATTN_FACTOR),
        ("beta_fast", keys::ROPE_SCALING_YARN_BETA_FAST),
        ("beta_slow", keys::ROPE_SCALING_YARN_BETA_SLOW),
    ] {
        if let Some(value) = number(key) {
            scaling[name] = value;
        }
    }
    Ok(Some(scaling))
}

/// The share of pairs that turn, if all others stand still.
fn still_pairs(factors: &[f32]) -> Option<Json> {
    let turning = factors.iter().position(|&factor| factor > 1e20)?;
    let (first, rest) = factors.split_at(turning);
    let still = rest.iter().all(|&factor| factor > 1e20) && first.iter().all(|&factor| factor == 1.0);
    still.then(|| share(2 * turning, 2 * factors.len()))
}

/// The settings of the layers that see everything, which alone may be scaled, and of those with windows.
pub(super) fn of_kinds(source: &Source<'_>) -> Result<Json, Error> {
    let of_kind = |windows: bool, base: Json| {
        let mut rope = json!({ "rope_type": "default", "rope_theta": base });
        let mixer = source.attention().find(|mixer| mixer.window.is_some() == windows && mixer.rope.is_some());
        if let Some((mixer, own)) = mixer.and_then(|mixer| Some((mixer, mixer.rope.as_ref()?)))
            && 2 * own.frequencies.len() < mixer.k_dim
        {
            rope["partial_rotary_factor"] = share(2 * own.frequencies.len(), mixer.k_dim);
        }
        rope
    };
    let mut full = of_kind(false, source.rotary_base());
    if let (Some(full), Some(Json::Object(scaling))) = (full.as_object_mut(), scaling(source)?) {
        full.extend(scaling);
    }
    Ok(json!({ "full_attention": full, "sliding_attention": of_kind(true, source.sliding_base()) }))
}

/// The settings that give the file's factors. Those of published models are tried: 1 and 4 as limits, and a power of two as the
/// original context length. The scaling factor is the largest factor in the file, unless no pair rotates slowly enough to
/// have it.
fn llama3(source: &Source<'_>) -> Result<Json, Error> {
    let h = &source.header.hparams;
    let wanted = source.values(FACTORS)?;
    let largest = wanted.iter().copied().fold(1.0, f32::max);
    let base = source.rotary_base();
    for factor in [float(largest), 8.into(), 32.into(), 16.into(), 4.into(), 64.into()] {
        for length in (6..=20).map(|power| 1u32 << power) {
            let scaling = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": length,
            });
            let mut rope = scaling.clone();
            rope["rope_theta"] = base.clone();
            let config = json!({ "architectures": ["LlamaForCausalLM"], "rope_parameters": rope });
            let made = Config::new(config).ok().and_then(|config| rope_factors(&config, h, FACTORS));
            // Other programs round them differently.
            let near = |made: &[f32]| made.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs());
            if made.is_some_and(|made| made.len() == wanted.len() && near(&made)) {
                return Ok(scaling);
            }
        }
    }
    let (path, name) = (source.path(), FACTORS.to_owned());
    Err(Error::Tensor { path, name, problem: TensorProblem::Factors })
}
