//! A parsed `tokenizer.json`. Vocabulary and merges, which are nearly all of it, are plain lists, and the rest is JSON. As JSON, a
//! vocabulary of 256k tokens would take ten times the memory of its file.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

/// A parsed `tokenizer.json`.
#[derive(Default, Deserialize)]
#[serde(from = "Raw")]
pub(super) struct TokenizerFile {
    /// Everything except the model's vocabulary and merges.
    pub(super) json: Json,
    /// `model.vocab`.
    pub(super) vocab: VocabList,
    /// `model.merges`: two texts with a space between, or `None` for an entry that is not a pair. `None` if it is not a list.
    pub(super) merges: Option<Vec<Option<String>>>,
}

/// The tokens of a vocabulary in the file's order.
#[derive(Default)]
pub(super) enum VocabList {
    /// Missing or not a vocabulary.
    #[default]
    Other,
    /// An object: tokens with their ids.
    Ids(Vec<(String, u64)>),
    /// A list: tokens with their scores; `None` for other entries.
    Scores(Vec<Option<(String, f64)>>),
}

impl VocabList {
    /// Tokens with their ids, if it is an object.
    pub(super) fn ids(&self) -> Option<&[(String, u64)]> {
        match self {
            Self::Ids(ids) => Some(ids),
            _ => None,
        }
    }

    /// The id of the token with this text.
    pub(super) fn id(&self, text: &str) -> Option<u64> {
        match self {
            Self::Ids(ids) => ids.iter().find(|(own, _)| own == text).map(|(_, id)| *id),
            Self::Scores(pieces) => (0..)
                .zip(pieces)
                .find(|(_, piece)| piece.as_ref().is_some_and(|(own, _)| own == text))
                .map(|(id, _)| id),
            Self::Other => None,
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    model: Option<RawModel>,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

#[derive(Deserialize)]
struct RawModel {
    #[serde(default)]
    vocab: VocabList,
    #[serde(default)]
    merges: Merges,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

#[derive(Default)]
struct Merges(Option<Vec<Option<String>>>);

impl From<Raw> for TokenizerFile {
    fn from(Raw { model, mut rest }: Raw) -> Self {
        let Some(model) = model else { return Self { json: Json::Object(rest), ..Self::default() } };
        rest.insert("model".into(), Json::Object(model.rest));
        Self { json: Json::Object(rest), vocab: model.vocab, merges: model.merges.0 }
    }
}

/// A token with its score.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawPiece {
    Scored(String, f64),
    Other(IgnoredAny),
}

/// A merge: one text, or a pair.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawMerge<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Pair(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

impl RawMerge<'_> {
    /// As one text; spaces within the parts of a pair are written in the byte-level alphabet.
    fn text(self) -> Option<String> {
        let spaces = |part: &mut Cow<'_, str>| {
            if part.contains(' ') {
                *part = part.replace(' ', "Ġ").into();
            }
        };
        match self {
            Self::Text(text) => Some(text.into_owned()),
            Self::Pair(mut left, mut right) => {
                spaces(&mut left);
                spaces(&mut right);
                Some([&*left, " ", &*right].concat())
            }
            Self::Other(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for VocabList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabVisitor)
    }
}

struct VocabVisitor;

impl<'de> Visitor<'de> for VocabVisitor {
    type Value = VocabList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tokens with their ids or scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabList, A::Error> {
        let mut ids = Vec::new();
        while let Some(text) = map.next_key::<String>()? {
            if let Some(id) = map.next_value::<Json>()?.as_u64() {
                ids.push((text, id));
            }
        }
        Ok(VocabList::Ids(ids))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VocabList, A::Error> {
        let mut pieces = Vec::new();
        while let Some(piece) = seq.next_element()? {
            pieces.push(match piece {
                RawPiece::Scored(text, score) => Some((text, score)),
                RawPiece::Other(_) => None,
            });
        }
        Ok(VocabList::Scores(pieces))
    }

    fn visit_unit<E>(self) -> Result<VocabList, E> {
        Ok(VocabList::Other)
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergesVisitor)
    }
}

struct MergesVisitor;

impl<'de> Visitor<'de> for MergesVisitor {
    type Value = Merges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
        let mut merges = Vec::new();
        while let Some(merge) = seq.next_element::<RawMerge<'de>>()? {
            merges.push(merge.text());
        }
        Ok(Merges(Some(merges)))
    }

    fn visit_unit<E>(self) -> Result<Merges, E> {
        Ok(Merges(None))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{TokenizerFile, VocabList};

    fn read(text: &str) -> TokenizerFile {
        serde_json::from_str(text).expect("a tokenizer")
    }

    #[test]
    fn long_lists_stand_apart() {
        let file = read(
            r#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "\u0062": 1, "no": "id"},
                "merges": ["a b", ["a b", "c\n"], ["a"], 5]}, "added_tokens": []}"#,
        );
        assert_eq!(file.json, json!({ "version": "1.0", "added_tokens": [], "model": { "type": "BPE" } }));
        assert_eq!(file.vocab.ids(), Some(&[("a".to_owned(), 0), ("b".to_owned(), 1)][..]));
        let merges = [Some("a b".to_owned()), Some("aĠb c\n".to_owned()), None, None];
        assert_eq!(file.merges.as_deref(), Some(&merges[..]));
        let file = read(r#"{"model": {"vocab": [["a", -1.5], ["b", 0], "c"], "merges": null}}"#);
        let VocabList::Scores(pieces) = &file.vocab else { panic!("scores") };
        assert_eq!(*pieces, [Some(("a".to_owned(), -1.5)), Some(("b".to_owned(), 0.0)), None]);
        assert!(file.merges.is_none());
        let file = read(r#"{"model": null}"#);
        assert!(file.json["model"].is_null() && file.vocab.ids().is_none() && file.merges.is_none());
    }
}
