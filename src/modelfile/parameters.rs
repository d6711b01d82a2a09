//! The parameters of a Modelfile: the settings of Ollama's models, with their types.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::Error;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    Flag,
    /// A text; the parameter may be given several times.
    Texts,
}

const PARAMETERS: &[(&str, Kind)] = &[
    ("num_ctx", Kind::Whole),
    ("num_predict", Kind::Whole),
    ("num_keep", Kind::Whole),
    ("num_batch", Kind::Whole),
    ("num_gpu", Kind::Whole),
    ("main_gpu", Kind::Whole),
    ("num_thread", Kind::Whole),
    ("draft_num_predict", Kind::Whole),
    ("use_mmap", Kind::Flag),
    ("seed", Kind::Whole),
    ("top_k", Kind::Whole),
    ("repeat_last_n", Kind::Whole),
    ("temperature", Kind::Number),
    ("top_p", Kind::Number),
    ("min_p", Kind::Number),
    ("typical_p", Kind::Number),
    ("repeat_penalty", Kind::Number),
    ("presence_penalty", Kind::Number),
    ("frequency_penalty", Kind::Number),
    ("stop", Kind::Texts),
];

/// Parameters of earlier versions of Ollama, which ignores them now.
const OLD: &[&str] = &[
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "tfs_z",
    "f16_kv",
    "low_vram",
    "use_mlock",
    "penalize_newline",
    "num_gqa",
    "vocab_only",
    "logits_all",
    "embedding_only",
    "numa",
    "rope_frequency_base",
    "rope_frequency_scale",
];

/// Adds a parameter to `all`. Returns whether it is known: those of earlier versions of Ollama are left out.
///
/// # Errors
/// When there is no such parameter, or the value has another type.
pub fn parse_parameter(all: &mut Map<String, Json>, name: &str, value: &str) -> Result<bool, Error> {
    let failed = |problem: &str| Error::Parameter { name: name.to_owned(), problem: problem.to_owned() };
    let name = name.to_ascii_lowercase();
    if OLD.contains(&name.as_str()) {
        return Ok(false);
    }
    let Some((_, kind)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = PARAMETERS.iter().map(|(known, _)| *known).collect();
        return Err(failed(&format!("there is no such parameter, but {}", known.join(", "))));
    };
    let value = match kind {
        Kind::Whole => value.parse::<i64>().map(Json::from).map_err(|_| failed("must be a whole number"))?,
        Kind::Number => {
            let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(Json::from).ok_or_else(|| failed("must be a number"))?
        }
        Kind::Flag => value.parse::<bool>().map(Json::from).map_err(|_| failed("must be true or false"))?,
        Kind::Texts => {
            if let Some(Json::Array(texts)) = all.get_mut(&name) {
                texts.push(value.into());
                return Ok(true);
            }
            Json::Array(vec![value.into()])
        }
    };
    all.insert(name, value);
    Ok(true)
}

/// Names and values, one of each for a parameter that has several.
pub(super) fn pairs(parameters: &Json) -> Vec<(&str, String)> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all = parameters.as_object().into_iter().flatten();
    all.flat_map(|(name, value)| match value {
        Json::Array(values) => values.iter().map(|value| (name.as_str(), text(value))).collect(),
        value => vec![(name.as_str(), text(value))],
    })
    .collect()
}

/// A line for each parameter: its name padded to 30 characters, and its value, a text in quotes.
#[must_use]
pub fn parameter_lines(parameters: &Json) -> String {
    let mut lines = String::new();
    for (name, value) in pairs(parameters) {
        let is_text = PARAMETERS.iter().any(|(known, kind)| *known == name && *kind == Kind::Texts);
        let value = if is_text { format!("{value:?}") } else { value };
        let _ = writeln!(lines, "{name:<30} {value}");
    }
    lines.truncate(lines.trim_end().len());
    lines
}
