//! The settings of samplers: one table with the name, range and field of each, which options of programs, keys of files and
//! chat commands use.

use super::{NAMES, named};
use crate::engine::Error;
use crate::gguf::{Metadata, Value};

/// How the next token is chosen. Every field except `logit_bias`, `samplers`, `dry_sequence_breakers` and `seed` has a row
/// in [`SETTINGS`].
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divisor of the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Range by which the temperature varies with the entropy of the candidates.
    pub dynatemp_range: f32,
    /// Exponent of the entropy.
    pub dynatemp_exponent: f32,
    /// Number of likeliest tokens that are kept; 0 for all.
    pub top_k: usize,
    /// The likeliest tokens that together reach this probability are kept; 1 for all.
    pub top_p: f32,
    /// Tokens with at least this fraction of the likeliest token's probability are kept; 0 for all.
    pub min_p: f32,
    /// Tokens of typical surprise that together reach this probability are kept; 1 for all.
    pub typical_p: f32,
    /// Logits within this many standard deviations of the highest are kept; 0 or less for all.
    pub top_n_sigma: f32,
    /// Probability with which likely tokens are removed; 0 for never.
    pub xtc_probability: f32,
    /// Probability from which a token counts as likely; over 0.5 for none.
    pub xtc_threshold: f32,
    /// Logits of recent tokens are divided (or, below zero, multiplied) by this; 1 for none.
    pub repeat_penalty: f32,
    /// Number of recent tokens; all when `None`.
    pub repeat_last_n: Option<usize>,
    /// Subtracted from the logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens, for each time they occurred.
    pub frequency_penalty: f32,
    /// Strength of the DRY penalty; 0 for none.
    pub dry_multiplier: f32,
    /// Base of its growth with the length of the repetition.
    pub dry_base: f32,
    /// Longest repetition that is not penalized.
    pub dry_allowed_length: usize,
    /// Number of tokens that are searched for repetitions; all when `None`.
    pub dry_last_n: Option<usize>,
    /// Texts that end a repetition.
    pub dry_sequence_breakers: Vec<String>,
    /// Mirostat's version; 0 for none. With Mirostat, the temperature is the only other stage.
    pub mirostat: u8,
    /// Its target surprise in bits.
    pub mirostat_tau: f32,
    /// Its learning rate.
    pub mirostat_eta: f32,
    /// Probability of the tokens that `adaptive_p` prefers; below 0 for none.
    pub adaptive_target: f32,
    /// Its decay: how slowly earlier probabilities are forgotten.
    pub adaptive_decay: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Names of the samplers, in order.
    pub samplers: Vec<String>,
    /// Seed of the random numbers: the same seed gives the same text.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        let usual = NAMES.iter().map(|row| row.name).filter(|name| *name != "adaptive_p");
        Self {
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            top_n_sigma: -1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repeat_penalty: 1.0,
            repeat_last_n: Some(64),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_last_n: None,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            adaptive_target: -1.0,
            adaptive_decay: 0.9,
            logit_bias: Vec::new(),
            samplers: usual.map(str::to_owned).collect(),
            seed: 0,
        }
    }
}

/// A numeric setting of the samplers.
pub struct Setting {
    /// Its name, with dashes.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// A short description.
    pub about: &'static str,
    /// The part of its key in files after `general.sampling.`.
    key: Option<&'static str>,
    least: f64,
    most: f64,
    whole: bool,
    get: fn(&SamplerOptions) -> f64,
    set: fn(&mut SamplerOptions, f64),
}

/// A setting of single precision.
macro_rules! number {
    ($name:literal, $aliases:expr, $key:expr, $range:expr, $field:ident, $about:literal) => {
        Setting {
            name: $name,
            aliases: &$aliases,
            about: $about,
            key: $key,
            least: $range.0,
            most: $range.1,
            whole: false,
            get: |o| f64::from(o.$field),
            #[allow(clippy::cast_possible_truncation, reason = "settings are single precision")]
            set: |o, x| o.$field = x as f32,
        }
    };
}

/// A setting that is a whole number; for optional ones, `-1` is `None`.
macro_rules! count {
    ($name:literal, $aliases:expr, $key:expr, $range:expr, $get:expr, $set:expr, $about:literal) => {
        Setting {
            name: $name,
            aliases: &$aliases,
            about: $about,
            key: $key,
            least: $range.0,
            most: $range.1,
            whole: true,
            get: $get,
            set: $set,
        }
    };
}

/// Maximum of settings that count tokens.
const MANY: f64 = 2_147_483_647.0;
/// Minimum repeat penalty; smaller ones are not used in practice.
const LEAST_PENALTY: f64 = 0.01;

/// Every numeric setting.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    number!("temperature", ["temp"], Some("temp"), (0.0, 2.0), temperature,
        "Divisor of the logits; 0 takes the likeliest token"),
    count!("top-k", [], Some("top_k"), (0.0, MANY), |o| as_number(Some(o.top_k)), |o, x| o.top_k = as_count(x).unwrap_or(0),
        "Only the K likeliest tokens; 0 for all"),
    number!("top-p", [], Some("top_p"), (0.0, 1.0), top_p,
        "Only the likeliest tokens that together reach P"),
    number!("min-p", [], Some("min_p"), (0.0, 1.0), min_p,
        "Only tokens at least P times as likely as the likeliest"),
    number!("typical-p", ["typical", "typ-p"], None, (0.0, 1.0), typical_p,
        "Only tokens of typical surprise that together reach P"),
    number!("top-n-sigma", ["top-nsigma"], None, (-1.0, 1000.0), top_n_sigma,
        "Only logits within N standard deviations of the highest"),
    number!("xtc-probability", [], Some("xtc_probability"), (0.0, 1.0), xtc_probability,
        "How often likely tokens are left out"),
    number!("xtc-threshold", [], Some("xtc_threshold"), (0.0, 1.0), xtc_threshold,
        "What counts as likely for that"),
    number!("repeat-penalty", ["penalty-repeat"], Some("penalty_repeat"), (LEAST_PENALTY, 100.0), repeat_penalty,
        "Divisor of the logits of recent tokens"),
    count!("repeat-last-n", ["penalty-last-n"], Some("penalty_last_n"), (-1.0, MANY),
        |o| as_number(o.repeat_last_n), |o, x| o.repeat_last_n = as_count(x),
        "How many tokens are recent; -1 for all"),
    number!("presence-penalty", ["penalty-present"], None, (-100.0, 100.0), presence_penalty,
        "Subtracted from the logits of recent tokens"),
    number!("frequency-penalty", ["penalty-freq"], None, (-100.0, 100.0), frequency_penalty,
        "Subtracted for each time that they occurred"),
    number!("dry-multiplier", [], None, (0.0, 100.0), dry_multiplier,
        "Strength of the penalty for going on with a repetition (DRY)"),
    number!("dry-base", [], None, (1.0, 100.0), dry_base,
        "How it grows with each token"),
    count!("dry-allowed-length", [], None, (0.0, MANY), |o| as_number(Some(o.dry_allowed_length)),
        |o, x| o.dry_allowed_length = as_count(x).unwrap_or(0),
        "Longest repetition without a penalty"),
    count!("dry-penalty-last-n", ["dry-last-n"], None, (-1.0, MANY), |o| as_number(o.dry_last_n), |o, x| o.dry_last_n = as_count(x),
        "How many tokens are looked through for repetitions; -1 for all"),
    number!("dynatemp-range", [], None, (0.0, 2.0), dynatemp_range,
        "How much the temperature varies with the entropy"),
    number!("dynatemp-exponent", ["dynatemp-exp"], None, (0.0, 100.0), dynatemp_exponent,
        "Exponent of the entropy for that"),
    count!("mirostat", [], Some("mirostat"), (0.0, 2.0), |o| f64::from(o.mirostat),
        |o, x| o.mirostat = as_count(x).and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
        "Mirostat 1 or 2 in place of the other samplers; 0 for none"),
    number!("mirostat-tau", ["mirostat-ent"], Some("mirostat_tau"), (0.0, 100.0), mirostat_tau,
        "Its target surprise in bits"),
    number!("mirostat-eta", ["mirostat-lr"], Some("mirostat_eta"), (0.0, 1.0), mirostat_eta,
        "Its learning rate"),
    number!("adaptive-target", [], None, (-1.0, 1.0), adaptive_target,
        "Probability of the tokens that adaptive-p prefers; -1 for none"),
    number!("adaptive-decay", [], None, (0.0, 0.99), adaptive_decay,
        "How slowly it forgets"),
];

#[allow(clippy::cast_precision_loss, reason = "counts of tokens")]
fn as_number(n: Option<usize>) -> f64 {
    n.map_or(-1.0, |n| n as f64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, and whole")]
fn as_count(x: f64) -> Option<usize> {
    (x >= 0.0).then_some(x as usize)
}

impl Setting {
    /// The setting with this name, with dashes or underscores.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        SETTINGS.iter().find(|setting| setting.name == name || setting.aliases.contains(&name.as_str()))
    }

    /// Its value in `options`.
    #[must_use]
    pub fn get(&self, options: &SamplerOptions) -> f64 {
        // Without the digits that double precision adds to single precision.
        (self.get)(options)
    }

    /// Its value as text.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "settings are single precision")]
    pub fn text(&self, options: &SamplerOptions) -> String {
        let value = (self.get)(options);
        if self.whole { value.to_string() } else { (value as f32).to_string() }
    }

    /// Reads a number, and checks its range.
    ///
    /// # Errors
    /// [`Error::Setting`] with the range.
    pub fn parse(&self, text: &str) -> Result<f64, Error> {
        let number = text.trim().parse::<f64>().ok().filter(|number| self.allows(*number));
        number.ok_or_else(|| self.error(text))
    }

    /// Changes it in `options`.
    ///
    /// # Errors
    /// [`Error::Setting`] when `value` is out of range.
    pub fn set(&self, options: &mut SamplerOptions, value: f64) -> Result<(), Error> {
        if !self.allows(value) {
            return Err(self.error(&value.to_string()));
        }
        (self.set)(options, value);
        Ok(())
    }

    fn allows(&self, value: f64) -> bool {
        (self.least..=self.most).contains(&value) && (!self.whole || value.fract() == 0.0)
    }

    fn error(&self, value: &str) -> Error {
        Error::Setting { name: self.name.to_owned(), value: value.to_owned(), range: self.range() }
    }

    /// Its range, in words.
    #[must_use]
    pub fn range(&self) -> String {
        let kind = if self.whole { "a whole number" } else { "a number" };
        if self.most >= MANY {
            format!("{kind} from {}", self.least)
        } else {
            format!("{kind} from {} to {}", self.least, self.most)
        }
    }
}

impl SamplerOptions {
    /// Options for always choosing the likeliest token.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether nothing is drawn and no sampler removes the likeliest token.
    pub(super) fn is_greedy(&self) -> bool {
        let fixed = self.temperature <= 0.0 && self.dynatemp_range == 0.0 && self.mirostat == 0;
        let keeps = self.typical_p >= 1.0 && self.xtc_probability == 0.0 && self.adaptive_target < 0.0;
        fixed && keeps || self.top_k == 1 && keeps && self.mirostat == 0
    }

    /// The settings that a model's file recommends, and defaults for the rest. `chosen` are names of settings that the user has
    /// given, which override the file.
    ///
    /// # Errors
    /// [`Error::Setting`] when a recommended value is out of range.
    pub fn from_metadata(metadata: &Metadata, chosen: &[&str]) -> Result<Self, Error> {
        let mut options = Self::default();
        for setting in SETTINGS.iter().filter(|setting| !chosen.contains(&setting.name)) {
            let key = setting.key.map(|key| format!("general.sampling.{key}"));
            let Some((key, value)) = key.and_then(|key| metadata.get(&key).map(|value| (key, value))) else { continue };
            let number = number_of(value);
            let set = number.filter(|number| setting.allows(*number)).map(|number| (setting.set)(&mut options, number));
            set.ok_or_else(|| Error::Setting {
                name: key,
                value: number.map_or_else(|| "no number".to_owned(), |number| number.to_string()),
                range: setting.range(),
            })?;
        }
        if let Some(names) = metadata.get("general.sampling.sequence").and_then(Value::as_str)
            && !chosen.contains(&"samplers")
        {
            options.samplers = Self::parse_samplers(names)?;
        }
        Ok(options)
    }

    /// Parses a list of samplers, separated by `;` or `,`.
    ///
    /// # Errors
    /// [`Error::Setting`] when one is not known.
    pub fn parse_samplers(names: &str) -> Result<Vec<String>, Error> {
        let names = names.split([';', ',']).map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                named(name).map(|row| row.name.to_owned()).ok_or_else(|| Error::Setting {
                    name: "sampler".to_owned(),
                    value: name.to_owned(),
                    range: format!("one of {}", NAMES.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")),
                })
            })
            .collect()
    }
}

/// A number of any type.
#[allow(clippy::cast_precision_loss, reason = "what is so large is out of every range")]
fn number_of(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i64().map(|n| n as f64)).or_else(|| value.as_u64().map(|n| n as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_default_in_range_and_can_be_changed() {
        let usual = SamplerOptions::default();
        for setting in SETTINGS {
            assert!(setting.allows(setting.get(&usual)), "{}", setting.name);
            let mut changed = usual.clone();
            let other = if setting.get(&usual) == setting.least { setting.most } else { setting.least };
            setting.set(&mut changed, other).expect("in range");
            assert!((setting.get(&changed) - other).abs() < 1e-6, "{}", setting.name);
            assert_ne!(changed, usual, "{}", setting.name);
            for wrong in ["", "abc", "nan", "inf", "-2000", "1e300"] {
                assert!(setting.parse(wrong).is_err(), "{} {wrong}", setting.name);
            }
            assert_eq!(Setting::named(&setting.name.replace('-', "_")).map(|s| s.name), Some(setting.name));
        }
    }

    #[test]
    fn ranges_are_named() {
        let error = |name: &str, value: &str| {
            let setting = Setting::named(name).expect("a setting");
            setting.parse(value).expect_err("out of range").to_string()
        };
        assert_eq!(error("temp", "8"), "temperature 8: must be a number from 0 to 2");
        assert_eq!(error("top-k", "1.5"), "top-k 1.5: must be a whole number from 0");
        assert_eq!(error("repeat_penalty", "0"), "repeat-penalty 0: must be a number from 0.01 to 100");
        assert!(SamplerOptions::parse_samplers("top_k;nonsense").is_err());
        assert_eq!(SamplerOptions::parse_samplers("temp, top-k;").expect("known"), ["temperature", "top_k"]);
    }

    #[test]
    fn files_recommend_settings() {
        let file = |key: &str, value: Value| {
            let mut metadata = Metadata::default();
            metadata.set(key, value);
            metadata
        };
        let options = SamplerOptions::from_metadata(&file("general.sampling.temp", Value::F32(0.6)), &[]);
        assert_eq!(options.expect("in range").temperature, 0.6);
        let options = SamplerOptions::from_metadata(&file("general.sampling.top_k", Value::I32(20)), &[]);
        assert_eq!(options.expect("in range").top_k, 20);
        for bad in [0.0, f32::NAN, f32::INFINITY, -1.0] {
            let metadata = file("general.sampling.penalty_repeat", Value::F32(bad));
            let error = SamplerOptions::from_metadata(&metadata, &[]).expect_err("out of range").to_string();
            assert!(error.starts_with("general.sampling.penalty_repeat "), "{error}");
            assert!(SamplerOptions::from_metadata(&metadata, &["repeat-penalty"]).is_ok());
        }
        let order = file("general.sampling.sequence", Value::String("top_k;temperature".into()));
        assert_eq!(SamplerOptions::from_metadata(&order, &[]).expect("known").samplers, ["top_k", "temperature"]);
    }
}
