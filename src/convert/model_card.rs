//! The front matter of a model card (`README.md`), in YAML.
//!
//! It is read as by llama.cpp's converter (`gguf-py/gguf/metadata.py`, with PyYAML): plain `no`, `1.0` and `2024-01-31` are not
//! strings, and `null` is no value.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use saphyr_parser::{Event, Parser, ScalarStyle};

use super::model_name::Parts;

/// Maximum values of a card; values behind aliases count each time.
const MOST_VALUES: usize = 100_000;
/// Maximum nesting of lists and maps.
const DEEPEST: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Yaml {
    Null,
    Text(String),
    /// A boolean, a number or a date, as it is written.
    Other(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// The entry `key` of a map; the last of several.
    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// As text, if it is a single value and not empty.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Other(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Text of the entry `key`.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// A scalar. Plain scalars may be something other than strings, by the rules of YAML 1.1.
    fn scalar(text: &str, plain: bool) -> Self {
        static NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
        static OTHER: LazyLock<Option<Regex>> = LazyLock::new(|| {
            let whole = r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$";
            let integer = r"^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*(?::[0-5]?[0-9])*|0x[0-9a-fA-F_]+)$";
            let float = r"^(?:[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+][0-9]+)?|(?::[0-5]?[0-9])+\.[0-9_]*)|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$";
            let date = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)?$";
            Regex::new(&[whole, integer, float, date].join("|")).ok()
        });
        match text {
            _ if !plain => Self::Text(text.to_owned()),
            _ if NULL.contains(&text) => Self::Null,
            _ if OTHER.as_ref().is_some_and(|other| other.is_match(text)) => Self::Other(text.to_owned()),
            _ => Self::Text(text.to_owned()),
        }
    }

    /// Number of values in it.
    fn size(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Self::Map(entries) => 1 + entries.iter().map(|(_, value)| value.size()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// A model card's entries.
#[derive(Debug, Default)]
pub(super) struct ModelCard {
    entries: Option<Yaml>,
}

impl ModelCard {
    /// Reads the lines between the first two `---`. Invalid YAML is ignored, because a model does not need the card.
    pub(super) fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some("---") {
            return Self::default();
        }
        let front: String = lines.take_while(|line| *line != "---").flat_map(|line| [line, "\n"]).collect();
        // As in the reference: `no` in a list is the language Norwegian, and tabs are accepted.
        let front = front.replace("- no\n", "- \"no\"\n").replace('\t', "  ");
        Self { entries: parse(&front).filter(|yaml| matches!(yaml, Yaml::Map(_))) }
    }

    /// The value of the first of these keys that exists and is not null.
    fn first(&self, keys: &[&str]) -> Option<&Yaml> {
        let entries = self.entries.as_ref()?;
        keys.iter().find_map(|key| entries.get(key).filter(|value| **value != Yaml::Null))
    }

    /// The text of the first of these keys that has one.
    pub(super) fn text(&self, keys: &[&str]) -> Option<&str> {
        self.first(keys)?.text()
    }

    /// The text of `key`; several texts are joined by commas.
    pub(super) fn joined(&self, key: &str) -> Option<String> {
        match self.first(&[key])? {
            Yaml::List(items) => Some(items.iter().filter_map(Yaml::text).collect::<Vec<_>>().join(",")),
            value => value.text().map(str::to_owned),
        }
        .filter(|text| !text.is_empty())
    }

    /// The texts of all these keys, each of which has one text or a list.
    pub(super) fn texts(&self, keys: &[&str]) -> Vec<&str> {
        let values = keys.iter().filter_map(|key| self.first(&[key]));
        let texts = values.flat_map(|value| match value {
            Yaml::List(items) => items.iter().filter_map(Yaml::text).collect(),
            Yaml::Text(text) => vec![text.as_str()],
            _ => Vec::new(),
        });
        texts.collect()
    }

    /// The list (or the only text) under the first of these keys that exists; `None` if there is no such key.
    pub(super) fn list(&self, keys: &[&str]) -> Option<Vec<&Yaml>> {
        let entries = self.entries.as_ref()?;
        Some(match keys.iter().find_map(|key| entries.get(key))? {
            Yaml::List(items) => items.iter().collect(),
            value @ Yaml::Text(_) => vec![value],
            _ => Vec::new(),
        })
    }

    /// The parts of the model's name that the card gives.
    pub(super) fn parts(&self) -> Parts {
        let text = |keys: &[&str]| self.text(keys).map(str::to_owned);
        Parts {
            name: text(&["name", "model_name"]),
            author: text(&["author", "model_author", "model_creator"]),
            version: text(&["version", "model_version"]),
            organization: text(&["organization", "model_organization"]),
            finetune: text(&["finetune", "model_finetune"]),
            basename: text(&["basename", "model_basename", "model_type"]),
            size_label: text(&["size_label", "model_size_label"]),
        }
    }
}

/// A list or map that is still open.
struct Open {
    value: Yaml,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<String>,
}

/// The first document of `text`.
fn parse(text: &str) -> Option<Yaml> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Yaml> = HashMap::new();
    let mut values = 0usize;
    for event in Parser::new_from_str(text) {
        let (value, anchor) = match event.ok()?.0 {
            Event::Scalar(text, style, anchor, _) => (Yaml::scalar(&text, style == ScalarStyle::Plain), anchor),
            Event::Alias(anchor) => (anchors.get(&anchor)?.clone(), 0),
            Event::SequenceStart(anchor, _) => {
                open.push(Open { value: Yaml::List(Vec::new()), anchor, key: None });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { value: Yaml::Map(Vec::new()), anchor, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let closed = open.pop()?;
                (closed.value, closed.anchor)
            }
            _ => continue,
        };
        values = values.saturating_add(value.size());
        if values > MOST_VALUES || open.len() > DEEPEST {
            return None;
        }
        if anchor > 0 {
            anchors.insert(anchor, value.clone());
        }
        let Some(outer) = open.last_mut() else { return Some(value) };
        match &mut outer.value {
            Yaml::List(items) => items.push(value),
            Yaml::Map(entries) => match outer.key.take() {
                Some(key) => entries.push((key, value)),
                None => outer.key = Some(value.text().unwrap_or_default().to_owned()),
            },
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(card: &ModelCard, key: &str) -> Vec<String> {
        card.texts(&[key]).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn cards_as_the_hub_has_them() {
        let card = ModelCard::parse(
            "---\nlicense: apache-2.0\nlanguage:\n- en\n- no\n- \"de\"\ntags: [text-generation, 'a b']\nbase_model:\n  - meta/X-1B\n\
             model-index:\n- name: y\n  results:\n  - task: 1\ndescription: >\n  two\n  lines\n---\nname: not here\n",
        );
        assert_eq!(card.text(&["license"]), Some("apache-2.0"));
        assert_eq!(texts(&card, "language"), ["en", "no", "de"]);
        assert_eq!(texts(&card, "tags"), ["text-generation", "a b"]);
        assert_eq!(card.list(&["base_model"]), Some(vec![&Yaml::Text("meta/X-1B".into())]));
        assert_eq!(card.text(&["description"]), Some("two lines\n"));
        assert_eq!(card.text(&["name"]), None);
        assert!(ModelCard::parse("# Title\n").list(&["a"]).is_none());
    }

    #[test]
    fn what_is_no_text_is_told_from_texts() {
        let card =
            ModelCard::parse("---\na: null\nb: no\nc: 1.0\nd: 'no'\ne: [x, 2, ~]\nf: 2024-01-31\ng: v1.0\n---\n");
        assert_eq!(card.text(&["a", "c"]), Some("1.0"));
        assert_eq!(texts(&card, "b").len() + texts(&card, "c").len() + texts(&card, "f").len(), 0);
        assert_eq!((texts(&card, "d"), texts(&card, "g")), (vec!["no".to_owned()], vec!["v1.0".to_owned()]));
        assert_eq!(card.joined("e").as_deref(), Some("x,2"));
        assert_eq!(card.list(&["a", "b"]), Some(Vec::new()));
    }

    /// The time and stack for a card are bounded by its size.
    #[test]
    fn cards_cannot_grow() {
        let deep = format!("---\na: {}\n---\n", "[".repeat(100_000));
        assert!(ModelCard::parse(&deep).list(&["a"]).is_none());
        let mut laughs = "---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..20 {
            let inner = format!("*a{}", i - 1);
            laughs.push_str(&format!("a{i}: &a{i} [{}]\n", [inner.as_str(); 10].join(", ")));
        }
        assert!(ModelCard::parse(&laughs).list(&["a0"]).is_none());
    }
}
