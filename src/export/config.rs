//! `config.json` of an exported model: the defaults of its class, overridden by the settings of the file.
//!
//! If the absence of a key has a meaning, the value is taken from the network description, so that this meaning is defined in
//! one place.

use serde_json::{Map, Number, Value as Json, json};

use super::class::{CLASSES, Class, Origin, When};
use super::error::{Error, TensorProblem};
use super::rope;
use super::source::{Source, float};
use crate::arch::{BLOCK_NAMES, class_settings, keys, settings_of_keys};
use crate::gguf::Value;
use crate::network::{AttentionMixer, Mixer};
use crate::tensor_type::TensorType;

/// The class that a file is exported to.
pub(super) fn class(source: &Source<'_>) -> Result<&'static Class, Error> {
    let architecture = &source.header.hparams.architecture;
    let fits = |class: &&Class| {
        class.architecture == architecture
            && match class.when {
                When::Always => true,
                When::Has(name) => source.has(&format!("blk.0.{name}")),
                When::Windows => mixers(source).any(|mixer| mixer.window.is_some()),
            }
    };
    CLASSES.iter().find(fits).ok_or_else(|| {
        let mut known: Vec<&str> = CLASSES.iter().map(|class| class.architecture).collect();
        known.dedup();
        Error::Architecture { path: source.path(), architecture: architecture.clone(), known: known.join(", ") }
    })
}

/// The settings of a model with weights of this type.
pub(super) fn config(source: &Source<'_>, class: &Class, ty: TensorType) -> Result<Map<String, Json>, Error> {
    let h = &source.header.hparams;
    // A test checks that each class has defaults.
    let no_defaults = || unfit(source, class, keys::BLOCK_COUNT);
    let (model_type, defaults) = class_settings(class.name).ok_or_else(no_defaults)?;
    let mut config = Map::new();
    config.insert("architectures".into(), json!([class.name]));
    config.insert("model_type".into(), model_type.into());
    config.extend(defaults.clone());
    let own = |names: &[&'static str]| names.iter().copied().find(|name| defaults.contains_key(*name));
    config.insert(own(BLOCK_NAMES).unwrap_or(BLOCK_NAMES[0]).into(), h.block_count.into());
    for (key, names) in settings_of_keys() {
        if let (Some(name), Some(value)) = (own(names), h.get(key)) {
            config.insert(name.into(), one(source, class, key, value)?);
        }
    }
    // For most classes the default is the number of heads, which is not a constant.
    if !defaults.contains_key("n_head") && model_type != "gpt_neox" {
        let kv_heads = h.head_count_kv.iter().copied().max().unwrap_or(0);
        if h.head_count_kv.iter().any(|&heads| heads != kv_heads) {
            return Err(unfit(source, class, keys::HEAD_COUNT_KV));
        }
        config.insert("num_key_value_heads".into(), kv_heads.into());
    }
    if h.key_length != h.value_length {
        return Err(unfit(source, class, keys::VALUE_LENGTH));
    }
    if h.has(keys::KEY_LENGTH) || defaults.contains_key("head_dim") {
        config.insert("head_dim".into(), h.key_length.into());
    }
    config.insert("vocab_size".into(), h.vocab_size.into());
    config.insert("tie_word_embeddings".into(), (!source.has("output.weight")).into());
    if mixers(source).any(|mixer| mixer.rope.is_some()) {
        config.insert("rope_theta".into(), source.rotary_base());
        if let Some(scaling) = rope::scaling(source)? {
            config.insert("rope_scaling".into(), scaling);
        }
    }
    for (name, from) in class.settings {
        if let Some(value) = setting(source, class, *from)? {
            config.insert((*name).into(), value);
        }
    }
    let special = source.special();
    for (name, id) in [("bos_token_id", special.bos), ("eos_token_id", special.eos), ("pad_token_id", special.padding)]
    {
        config.insert(name.into(), id.into());
    }
    let dtype = match ty {
        TensorType::F32 => "float32",
        TensorType::BF16 => "bfloat16",
        _ => "float16",
    };
    config.insert("torch_dtype".into(), dtype.into());
    Ok(config)
}

fn setting(source: &Source<'_>, class: &Class, from: Origin) -> Result<Option<Json>, Error> {
    let h = &source.header.hparams;
    let key = |key: &str| h.get(key).map(|value| one(source, class, key, value)).transpose();
    let first = || mixers(source).next();
    Ok(match from {
        Origin::Key(name) => key(name)?,
        Origin::Flag(name, default) => Some(h.get(name).and_then(Value::as_bool).unwrap_or(default).into()),
        Origin::Has(names) => Some(everywhere(source, names)?.into()),
        Origin::Json(text) => serde_json::from_str(text).ok(),
        Origin::Gelu => h.get(keys::HIDDEN_ACTIVATION).and_then(Value::as_str).map(Json::from),
        Origin::Window => Some(mixers(source).find_map(|mixer| mixer.window).into()),
        Origin::LayerTypes => {
            let kind = |mixer: &AttentionMixer| match mixer.window {
                Some(_) => "sliding_attention",
                None => "full_attention",
            };
            Some(mixers(source).map(kind).collect())
        }
        Origin::RotaryShare => {
            let rotated = mixers(source).find_map(|mixer| Some(2 * mixer.rope.as_ref()?.frequencies.len()));
            rotated.map(|rotated| share(rotated, h.key_length))
        }
        Origin::RotaryBase => Some(source.rotary_base()),
        Origin::SlidingBase => Some(key(keys::ROPE_FREQ_BASE_SWA)?.unwrap_or_else(|| 10_000.into())),
        Origin::ScoreScalar => first().map(|mixer| inverse_square(mixer.scale)),
        Origin::ScoreCap => Some(first().and_then(|mixer| mixer.softcap).map_or(Json::Null, float)),
        Origin::LogitCap => Some(source.spec.logit_softcap.map_or(Json::Null, float)),
    })
}

/// The attention of all layers.
fn mixers<'a>(source: &'a Source<'_>) -> impl Iterator<Item = &'a AttentionMixer> {
    source.spec.layers.iter().filter_map(|layer| match &layer.mixer {
        Mixer::Attention(mixer) => Some(mixer),
        _ => None,
    })
}

/// The value of a key that must be the same for all layers.
fn one(source: &Source<'_>, class: &Class, key: &str, value: &Value) -> Result<Json, Error> {
    let number = |value: &Value| match value {
        Value::F32(number) => Some(float(*number)),
        Value::F64(number) => Number::from_f64(*number).map(Json::Number),
        Value::Bool(flag) => Some((*flag).into()),
        value => value.as_u64().map(Json::from),
    };
    let one = match value.as_array() {
        None => number(value),
        Some(list) => {
            let mut values = list.iter();
            let first = values.next();
            first.filter(|first| values.all(|value| value == *first)).as_ref().and_then(number)
        }
    };
    one.ok_or_else(|| unfit(source, class, key))
}

fn unfit(source: &Source<'_>, class: &Class, key: &str) -> Error {
    let key = format!("{}.{key}", source.header.hparams.architecture);
    source.key_fault(key, class.name)
}

/// Whether all layers have all of these tensors.
fn everywhere(source: &Source<'_>, names: &[&str]) -> Result<bool, Error> {
    let blocks = 0..source.header.hparams.block_count;
    let all: Vec<String> = blocks.flat_map(|i| names.iter().map(move |name| format!("blk.{i}.{name}"))).collect();
    let (there, missing): (Vec<&String>, Vec<&String>) = all.iter().partition(|name| source.has(name));
    match (there.first(), missing.is_empty()) {
        (Some(name), false) => {
            let (name, problem) = ((*name).clone(), TensorProblem::NotEverywhere);
            Err(Error::Tensor { path: source.path(), name, problem })
        }
        (first, _) => Ok(first.is_some()),
    }
}

/// The share of a head, as few digits as give the length again.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths of heads"
)]
fn share(rotated: usize, head: usize) -> Json {
    let exact = rotated as f64 / head as f64;
    let rounded = (1..12).map(|digits| {
        let power = 10f64.powi(digits);
        (exact * power).ceil() / power
    });
    rounded.chain([exact]).find(|share| (share * head as f64) as usize == rotated).unwrap_or(exact).into()
}

/// `1 / scale^2`, rounded if it is nearly a whole number: transformers 5 accepts only integers for Gemma.
#[allow(clippy::cast_possible_truncation, reason = "far below 2^63")]
fn inverse_square(scale: f32) -> Json {
    let square = f64::from(scale).powi(-2);
    let whole = square.round();
    if (square / whole - 1.0).abs() < 1e-5 { (whole as i64).into() } else { square.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        assert_eq!((float(1e-5), float(0.1)), (json!(1e-5), json!(0.1)));
        assert_eq!(inverse_square(1.0 / 256f32.sqrt()), json!(256));
        assert_eq!((share(16, 64), share(32, 80), share(64, 64)), (json!(0.25), json!(0.4), json!(1.0)));
    }

    #[test]
    fn each_class_is_of_a_family_and_has_defaults() {
        for class in CLASSES {
            let family = crate::arch::by_class(class.name).expect("a class that is converted");
            assert_eq!(family.name(), class.architecture);
            assert!(class_settings(class.name).is_some(), "{}", class.name);
        }
    }
}
