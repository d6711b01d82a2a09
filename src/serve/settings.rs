//! Settings of an answer: the fields that all dialects share, read into the engine's options.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::constraint::{self, RequestedConstraint};
use super::failure::Failure;
use super::fields::Fields;
use super::models::ServedModel;
use crate::engine::{SETTINGS, SamplerOptions, Setting, Tools};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Maximum tokens of an answer that a request may set.
const MOST: i64 = i32::MAX as i64;
/// Maximum choices of one request.
pub(super) const MOST_CHOICES: u32 = 128;
/// Maximum stop texts of one request.
const MOST_STOPS: usize = 64;

/// Settings of an answer.
pub(super) struct Settings {
    pub(super) sampler: SamplerOptions,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) ignore_end: bool,
    pub(super) salt: u64,
    pub(super) no_cache: bool,
    /// Whether probabilities are those after the samplers.
    pub(super) after_samplers: bool,
    /// Maximum tokens of a draft; 0 for none.
    pub(super) draft_limit: Option<usize>,
    /// The slot that is wanted.
    pub(super) slot: Option<usize>,
    /// The constraint.
    pub(super) wanted: Option<RequestedConstraint>,
    /// The tools that may be called; `None` unless a chat request has some.
    pub(super) tools: Option<Arc<Tools>>,
}

impl Settings {
    /// Reads the settings. `salt` is that of the API key; `limits` are the names of the field with the maximum tokens, the preferred
    /// name first.
    pub(super) fn read(fields: Fields<'_>, model: &ServedModel, salt: u64, limits: &[&str]) -> Result<Self, Failure> {
        let stop = if fields.get("stop").is_some() { fields.texts("stop")? } else { model.setup.stop() };
        if stop.len() > MOST_STOPS {
            return Err(Failure::field("stop", format!("must not have more than {MOST_STOPS} texts")));
        }
        let mut max_tokens = None;
        for name in limits {
            // Negative numbers mean as many as fit.
            let limit = fields.whole(name, -2, MOST)?.map(|n| usize::try_from(n).ok());
            max_tokens = max_tokens.or(limit);
        }
        Ok(Self {
            sampler: sampler(fields, model)?,
            max_tokens: max_tokens.unwrap_or(model.defaults.max_tokens),
            stop,
            ignore_end: fields.flag("ignore_eos")?,
            salt: salted(salt, fields.text("cache_salt")?),
            after_samplers: false,
            no_cache: fields.get("cache_prompt") == Some(&Json::Bool(false)),
            draft_limit: fields.whole("speculative.n_max", 0, MOST)?.and_then(|n| usize::try_from(n).ok()),
            slot: fields.whole("id_slot", -1, last_slot(model))?.and_then(|n| usize::try_from(n).ok()),
            wanted: constraint::wanted(fields)?,
            tools: None,
        })
    }
}

fn last_slot(model: &ServedModel) -> i64 {
    i64::try_from(model.batcher().options().parallel).unwrap_or(i64::MAX) - 1
}

/// The salt combined with that of the request, if it has one.
pub(super) fn salted(salt: u64, own: Option<&str>) -> u64 {
    let Some(own) = own else { return salt };
    let mut hasher = DefaultHasher::new();
    (salt, own).hash(&mut hasher);
    hasher.finish()
}

/// The sampler settings of a request, with those of the model as defaults.
fn sampler(fields: Fields<'_>, model: &ServedModel) -> Result<SamplerOptions, Failure> {
    let (mut options, tokenizer) = (model.defaults.sampler.clone(), model.batcher().model().tokenizer());
    for (name, value) in fields.0.iter().filter(|(_, value)| !value.is_null()) {
        let known = if name == "repetition_penalty" { "repeat_penalty" } else { name };
        let Some(setting) = Setting::named(known) else { continue };
        let number = value.as_f64().ok_or_else(|| Failure::field(name, format!("must be {}", setting.range())))?;
        setting.set(&mut options, number).map_err(|_| Failure::field(name, format!("must be {}", setting.range())))?;
    }
    options.seed = match fields.get("seed") {
        None => model.defaults.seed.unwrap_or_else(random),
        Some(value) => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => seed,
            (None, Some(_)) => random(),
            _ => return Err(Failure::field("seed", "must be a whole number")),
        },
    };
    if let Some(value) = fields.get("samplers") {
        let names = match value {
            Json::String(names) => names.clone(),
            _ => fields.texts("samplers")?.join(";"),
        };
        options.samplers = SamplerOptions::parse_samplers(&names).map_err(|error| Failure::field("samplers", error))?;
    }
    if fields.get("dry_sequence_breakers").is_some() {
        options.dry_sequence_breakers = fields.texts("dry_sequence_breakers")?;
    }
    if let Some(value) = fields.get("logit_bias") {
        options.logit_bias = biases(value, tokenizer)?;
    }
    Ok(options)
}

/// Biases as an object of tokens, or as pairs of a token (or text) and its bias; `false` excludes it.
fn biases(value: &Json, tokenizer: &Tokenizer) -> Result<Vec<(u32, f32)>, Failure> {
    let wrong = || Failure::field("logit_bias", "must map tokens to numbers");
    #[allow(clippy::cast_possible_truncation, reason = "biases are single precision")]
    let number = |value: &Json| match value {
        Json::Bool(false) => Some(f32::NEG_INFINITY),
        _ => value.as_f64().map(|bias| bias as f32),
    };
    let mut biases = Vec::new();
    let mut add = |token: &Json, bias: &Json| -> Result<(), Failure> {
        let bias = number(bias).ok_or_else(wrong)?;
        let tokens = match token {
            Json::String(text) => match text.parse::<u32>() {
                Ok(id) => vec![id],
                Err(_) => tokenizer
                    .encode(text, EncodeOptions { add_special: false, parse_special: true })
                    .map_err(|error| Failure::field("logit_bias", error))?,
            },
            _ => vec![token.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong)?],
        };
        biases.extend(tokens.into_iter().map(|token| (token, bias)));
        Ok(())
    };
    match value {
        Json::Object(map) => map.iter().try_for_each(|(token, bias)| add(&Json::from(token.as_str()), bias))?,
        Json::Array(pairs) => pairs.iter().try_for_each(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([token, bias]) => add(token, bias),
            _ => Err(wrong()),
        })?,
        _ => return Err(wrong()),
    }
    Ok(biases)
}

/// The settings in llama-server's form.
#[allow(clippy::cast_possible_truncation, reason = "settings are single precision")]
pub(super) fn shown(options: &SamplerOptions) -> Map<String, Json> {
    let number = |setting: &Setting| {
        let value = setting.get(options);
        // CompleteChoice numbers stay whole; single precision numbers get no further digits.
        if value.fract() == 0.0 && setting.range().contains("whole") {
            Json::from(value as i64)
        } else {
            serde_json::from_str(&(value as f32).to_string()).unwrap_or(Json::Null)
        }
    };
    let mut map: Map<_, _> = SETTINGS.iter().map(|setting| (setting.name.replace('-', "_"), number(setting))).collect();
    map.insert("seed".to_owned(), options.seed.into());
    map.insert("samplers".to_owned(), options.samplers.clone().into());
    map
}

/// A new unique id.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}{:014x}{:08x}", random(), random() >> 21)
}

/// A random number.
pub(super) fn random() -> u64 {
    // `RandomState` has random keys from the system. Seeds of 53 bits are exact in any JSON parser.
    RandomState::new().hash_one(0) >> 11
}
