//! Splits a model's name into parts: `org/Base-7B-Instruct-v0.2` has an organization, a base name, a size, a finetune and a
//! version. The heuristics are those of llama.cpp (`gguf-py/gguf/metadata.py`).

/// The parts of a model's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) name: Option<String>,
    pub(super) author: Option<String>,
    pub(super) version: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) finetune: Option<String>,
    pub(super) basename: Option<String>,
    pub(super) size_label: Option<String>,
}

impl Parts {
    /// Takes what is missing from `other`.
    pub(super) fn fill_from(&mut self, other: &Self) {
        let fill = |own: &mut Option<String>, other: &Option<String>| {
            if own.is_none() {
                own.clone_from(other);
            }
        };
        fill(&mut self.name, &other.name);
        fill(&mut self.version, &other.version);
        fill(&mut self.organization, &other.organization);
        fill(&mut self.finetune, &other.finetune);
        fill(&mut self.basename, &other.basename);
        fill(&mut self.size_label, &other.size_label);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Basename,
    SizeLabel,
    Finetune,
    Version,
    /// A version within the base name (`Llama-3`).
    BaseVersion,
    Type,
}

/// The parts of `id`, the name of a model with `parameters` parameters.
pub(super) fn parse(id: &str, parameters: u64) -> Parts {
    if id.contains(' ') {
        return Parts { name: Some(title(id)), ..Parts::default() };
    }
    let (organization, full) = id.split_once('/').map_or((None, id), |(org, full)| (Some(org), full));
    let organization = organization.filter(|org| !org.is_empty() && !org.starts_with('.'));
    let mut parts: Vec<(String, Kind)> = full
        .split('-')
        .filter(|part| !part.is_empty())
        .enumerate()
        .map(|(i, part)| classify(i, part, parameters))
        .collect();
    if parts.iter().any(|(p, kind)| *kind == Kind::SizeLabel && p.contains(|c: char| c.is_ascii_digit())) {
        for (part, kind) in &mut parts {
            if *kind == Kind::SizeLabel && part.chars().all(char::is_alphabetic) {
                *kind = Kind::Unknown;
            }
        }
    }
    let mut at_start = true;
    for (part, kind) in &mut parts {
        match *kind {
            Kind::Unknown if at_start && part.starts_with(char::is_alphabetic) => *kind = Kind::Basename,
            Kind::Version if at_start => *kind = Kind::BaseVersion,
            _ => {
                at_start = false;
                if *kind == Kind::Unknown {
                    *kind = Kind::Finetune;
                }
            }
        }
    }
    // A version at the end belongs to the model, not to the base name.
    for (_, kind) in parts.iter_mut().rev().take_while(|(_, kind)| *kind == Kind::BaseVersion) {
        *kind = Kind::Version;
    }
    let join = |wanted: &[Kind], once: bool| {
        let mut found: Vec<&str> = Vec::new();
        for (part, _) in parts.iter().filter(|(_, kind)| wanted.contains(kind)) {
            if !once || !found.contains(&part.as_str()) {
                found.push(part);
            }
        }
        (!found.is_empty()).then(|| found.join("-"))
    };
    let (finetune, version) = (join(&[Kind::Finetune], false), join(&[Kind::Version], false));
    let size_label = join(&[Kind::SizeLabel], true);
    let ambiguous = finetune.is_none() && version.is_none() && size_label.is_none();
    Parts {
        name: Some(title(full)),
        author: None,
        organization: organization.map(title),
        basename: join(&[Kind::Basename, Kind::BaseVersion], false).filter(|_| !ambiguous),
        finetune,
        version,
        size_label,
    }
}

fn classify(i: usize, part: &str, parameters: u64) -> (String, Kind) {
    let lower = part.to_ascii_lowercase();
    let keep = |kind| (part.to_owned(), kind);
    let number = lower.strip_prefix("iter").or(lower.strip_prefix('v')).unwrap_or(&lower);
    if number.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
        return keep(Kind::Version);
    }
    if is_type(&lower) {
        return (part.to_uppercase(), Kind::Type);
    }
    if i > 0
        && (is_size(&lower) || matches!(lower.as_str(), "small" | "mini" | "medium" | "large" | "xl" | "xxl" | "l"))
    {
        return size(part, parameters);
    }
    if i > 0 && matches!(lower.as_str(), "chat" | "instruct" | "vision" | "lora") {
        return keep(Kind::Finetune);
    }
    keep(Kind::Unknown)
}

/// `q4_k_m`, `iq3_s`, `f16`, `bf16`, `fp32`.
fn is_type(part: &str) -> bool {
    let quant = part.strip_prefix('i').unwrap_or(part).strip_prefix('q');
    let quant = quant.is_some_and(|rest| {
        let mut pieces = rest.split('_');
        let first = pieces.next().unwrap_or_default();
        first.len() == 1 && first.bytes().all(|b| b.is_ascii_digit()) && pieces.all(|p| p.len() == 1)
    });
    quant || matches!(part, "f16" | "f32" | "fp16" | "fp32" | "bf16" | "bf32" | "bfp16" | "bfp32")
}

/// `7b`, `8x7b`, `a3b`, `1.5b`, `0_5b`, `7b1`.
fn is_size(part: &str) -> bool {
    let part = part.strip_prefix('a').unwrap_or_else(|| {
        part.split_once('x')
            .filter(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            .map_or(part, |(_, rest)| rest)
    });
    let Some(at) = part.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_') else { return false };
    let (number, suffix) = part.split_at(at);
    let separators = number.bytes().filter(|b| !b.is_ascii_digit()).count();
    let shaped = number.starts_with(|c: char| c.is_ascii_digit()) && number.ends_with(|c: char| c.is_ascii_digit());
    let suffix = suffix.as_bytes();
    let suffixed = matches!(suffix.first(), Some(b'k' | b'm' | b'b' | b't'))
        && (suffix.len() == 1 || suffix.len() == 2 && suffix[1].is_ascii_digit());
    shaped && separators <= 1 && suffixed
}

/// A size with a capital suffix; a number far from the model's size is a context length.
#[allow(clippy::cast_precision_loss, reason = "sizes are compared roughly")]
fn size(part: &str, parameters: u64) -> (String, Kind) {
    let mut part = part.replace('_', ".");
    // bloom's 7b1 is 7.1b.
    if let Some(last) = part.chars().last().filter(char::is_ascii_digit) {
        let suffix = part.chars().rev().nth(1).unwrap_or('b');
        part.truncate(part.len() - 2);
        part = format!("{part}.{last}{suffix}");
    }
    let digits = part[..part.len() - 1].to_owned();
    if digits.ends_with(|c: char| c.is_ascii_digit()) {
        part = format!("{digits}{}", part[digits.len()..].to_ascii_uppercase());
    }
    let scale = match part.chars().last() {
        Some('K') => 1e3,
        Some('M') => 1e6,
        Some('B') => 1e9,
        Some('T') => 1e12,
        _ => return (part, Kind::SizeLabel),
    };
    let far = |number: f64| (number * scale - parameters as f64).abs() > (7 * parameters / 8) as f64;
    if parameters > 0 && digits.parse().is_ok_and(far) {
        let suffix = part[digits.len()..].to_ascii_lowercase();
        return (format!("{digits}{suffix}"), Kind::Finetune);
    }
    (part, Kind::SizeLabel)
}

/// Capitalizes words, except for versions and words that have capitals already.
fn title(id: &str) -> String {
    let words = id.trim().replace('-', " ");
    let words = words.split_whitespace().map(|word| {
        let rest = word.strip_prefix('v').unwrap_or(word);
        let versioned = rest.starts_with(|c: char| c.is_ascii_digit());
        let lower = word.chars().any(char::is_lowercase) && !word.chars().any(char::is_uppercase);
        if lower && !versioned { capitalized(word) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Capitalizes every run of letters, as Python's `str.title`.
fn capitalized(word: &str) -> String {
    let mut inside = false;
    word.chars()
        .flat_map(|c| {
            let start = c.is_alphabetic() && !inside;
            inside = c.is_alphabetic();
            if start { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_hub_has_them() {
        let p = parse("mistralai/Mistral-7B-Instruct-v0.2", 7_241_732_096);
        assert_eq!(p.name.as_deref(), Some("Mistral 7B Instruct v0.2"));
        assert_eq!(p.organization.as_deref(), Some("Mistralai"));
        assert_eq!(p.basename.as_deref(), Some("Mistral"));
        assert_eq!(p.size_label.as_deref(), Some("7B"));
        assert_eq!(p.finetune.as_deref(), Some("Instruct"));
        assert_eq!(p.version.as_deref(), Some("v0.2"));
        let p = parse("Llama-3.2-1B-Instruct", 1_235_814_400);
        assert_eq!((p.basename.as_deref(), p.size_label.as_deref()), (Some("Llama-3.2"), Some("1B")));
        let p = parse("phi-3-mini-4k-instruct", 3_821_079_552);
        assert_eq!((p.size_label.as_deref(), p.finetune.as_deref()), (Some("mini"), Some("4k-instruct")));
        let p = parse("storyteller", 3_700_000);
        assert_eq!((p.name.as_deref(), p.basename, p.size_label), (Some("Storyteller"), None, None));
        assert_eq!(parse("qwen3next", 1).name.as_deref(), Some("Qwen3Next"));
    }
}
