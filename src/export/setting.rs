//! The values of settings, each from where the row of the class says.

use serde_json::{Number, Value as Json};

use super::class::{Class, Origin};
use super::error::{Error, TensorProblem};
use super::rope;
use super::source::{Source, float, share};
use crate::arch::keys;
use crate::gguf::Value;
use crate::network::{AttentionMixer, Gating, Mixer};

/// What becomes of a setting.
pub(super) enum Set {
    /// It has this value.
    To(Json),
    /// It is what the class has by default.
    AsItIs,
    /// It is left out.
    Absent,
}

impl From<Option<Json>> for Set {
    fn from(value: Option<Json>) -> Self {
        value.map_or(Self::AsItIs, Self::To)
    }
}

/// The value of a setting.
///
/// # Errors
/// When the class cannot express what the file says.
pub(super) fn setting(source: &Source<'_>, class: &Class, from: Origin) -> Result<Set, Error> {
    let h = &source.header.hparams;
    let key = |key: &str| h.get(key).map(|value| one(source, class, key, value)).transpose();
    let json = |text: &str| serde_json::from_str::<Json>(text).ok();
    let first = || source.attention().next();
    let value = match from {
        Origin::Absent => return Ok(Set::Absent),
        Origin::Key(name) => key(name)?,
        Origin::KeyOr(name, default) => key(name)?.or_else(|| json(default)),
        Origin::Flag(name, default) => Some(h.get(name).and_then(Value::as_bool).unwrap_or(default).into()),
        Origin::Each(name) => Some(each(source, class, name)?),
        Origin::Quotient(dividend, divisor) => Some(quotient(source, class, dividend, divisor)?),
        Origin::Has(names) => Some(everywhere(source, names)?.into()),
        Origin::Any(names) => Some(somewhere(source, names).into()),
        Origin::Tensor(name) => Some(source.has(name).into()),
        Origin::Json(text) => json(text),
        Origin::Gelu => h.get(keys::HIDDEN_ACTIVATION).and_then(Value::as_str).map(Json::from),
        Origin::Window => Some(source.attention().find_map(window).into()),
        Origin::Mixers(names) => Some(source.spec.layers.iter().map(|layer| mixer_name(&layer.mixer, names)).collect()),
        Origin::FeedForward([dense, sparse]) => {
            let kinds = source.spec.layers.iter().map(|layer| layer.feed_forward.experts().map_or(dense, |_| sparse));
            Some(kinds.collect())
        }
        Origin::DenseLayers => {
            let first = source.spec.layers.iter().position(|layer| layer.feed_forward.experts().is_some());
            Some(first.unwrap_or(h.block_count).into())
        }
        Origin::Gating => source.spec.layers.iter().find_map(|layer| match layer.feed_forward.experts()?.gating {
            Gating::Softmax => Some("softmax".into()),
            Gating::Sigmoid => Some("sigmoid".into()),
            _ => None,
        }),
        Origin::Rotating => Some(source.attention().map(|mixer| u8::from(mixer.rope.is_some())).collect()),
        Origin::Latent(length) => source.latent().map(|latent| length(latent).into()),
        Origin::KvHeads => Some(kv_heads(source, class)?),
        Origin::RotaryShare => {
            let rotated = source.attention().find_map(|mixer| Some(2 * mixer.rope.as_ref()?.frequencies.len()));
            rotated.map(|rotated| share(rotated, h.key_length))
        }
        Origin::RotaryBase => Some(source.rotary_base()),
        Origin::SlidingBase => Some(source.sliding_base()),
        Origin::RopeOfKinds => Some(rope::of_kinds(source)?),
        Origin::ScoreScalar => first().map(|mixer| inverse_square(mixer.scale)),
        Origin::ScoreCap => Some(first().and_then(|mixer| mixer.softcap).map_or(Json::Null, float)),
        Origin::LogitCap => Some(source.spec.logit_softcap.map_or(Json::Null, float)),
        Origin::Made(make) => make(source),
    };
    Ok(value.into())
}

/// The positions that a mixer sees, if not all.
fn window(mixer: &AttentionMixer) -> Option<usize> {
    mixer.window
}

fn mixer_name(mixer: &Mixer, [full, part, other]: [&'static str; 3]) -> &'static str {
    match mixer {
        Mixer::Attention(mixer) if mixer.window.is_some() || mixer.chunk.is_some() => part,
        Mixer::Attention(_) | Mixer::Latent(_) | Mixer::AttentionAndMamba2(..) => full,
        _ => other,
    }
}

/// The value of a key that must be the same for all layers.
pub(super) fn one(source: &Source<'_>, class: &Class, key: &str, value: &Value) -> Result<Json, Error> {
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

fn number(value: &Value) -> Option<Json> {
    match value {
        Value::F32(number) => Some(float(*number)),
        Value::F64(number) => Number::from_f64(*number).map(Json::Number),
        Value::Bool(flag) => Some((*flag).into()),
        Value::String(text) => Some(text.clone().into()),
        value => value.as_u64().map(Json::from),
    }
}

/// The values of a key for all layers.
fn each(source: &Source<'_>, class: &Class, key: &str) -> Result<Json, Error> {
    let blocks = source.header.hparams.block_count;
    let values = match source.header.hparams.get(key) {
        Some(Value::Array(list)) => list.iter().take(blocks).map(|value| number(&value)).collect(),
        Some(value) => number(value).map(|number| vec![number; blocks]),
        None => None,
    };
    values.map(Json::Array).ok_or_else(|| unfit(source, class, key))
}

/// What one count is over another.
fn quotient(source: &Source<'_>, class: &Class, dividend: &str, divisor: &str) -> Result<Json, Error> {
    let count = |key: &str| source.header.hparams.count(key).map_err(|_| unfit(source, class, key));
    let (a, b) = (count(dividend)?, count(divisor)?);
    if b == 0 || !a.is_multiple_of(b) {
        return Err(unfit(source, class, dividend));
    }
    Ok((a / b).into())
}

/// Key-value heads, of which all layers with attention have the same number.
fn kv_heads(source: &Source<'_>, class: &Class) -> Result<Json, Error> {
    let all = &source.header.hparams.head_count_kv;
    let most = all.iter().copied().max().unwrap_or(0);
    if all.iter().any(|&heads| heads != 0 && heads != most) {
        return Err(unfit(source, class, keys::HEAD_COUNT_KV));
    }
    Ok(most.into())
}

/// The error for a key that the class cannot express.
pub(super) fn unfit(source: &Source<'_>, class: &Class, key: &str) -> Error {
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

/// Whether some layer has one of these tensors.
fn somewhere(source: &Source<'_>, names: &[&str]) -> bool {
    let mut blocks = 0..source.header.hparams.block_count;
    blocks.any(|i| names.iter().any(|name| source.has(&format!("blk.{i}.{name}"))))
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
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        assert_eq!((float(1e-5), float(0.1)), (json!(1e-5), json!(0.1)));
        assert_eq!(inverse_square(1.0 / 256f32.sqrt()), json!(256));
        assert_eq!((share(16, 64), share(32, 80), share(64, 64)), (json!(0.25), json!(0.4), json!(1.0)));
    }
}
