//! JSON objects as lists of entries, so that duplicate names are found.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;

/// The key of free text in a safetensors header.
const METADATA: &str = "__metadata__";

/// The entries of an object in order, without free text (`__metadata__`), of which only `format` is kept.
pub(super) struct Entries<V> {
    entries: Vec<(String, V)>,
    pub(super) format: Option<String>,
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
    type Value = Entries<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut format) = (Vec::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                let text: Json = map.next_value()?;
                format = text.get("format").and_then(Json::as_str).map(str::to_owned);
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Entries { entries, format })
    }
}

impl<V> Entries<V> {
    /// The entries sorted by name, or the first duplicate name.
    pub(super) fn sorted(self) -> Result<Vec<(String, V)>, String> {
        let mut entries = self.entries;
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        match entries.windows(2).find(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            Some([(name, _), ..]) => Err(name.clone()),
            _ => Ok(entries),
        }
    }
}
