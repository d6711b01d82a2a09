//! A trie of byte strings, for finding the longest string at the start of a text.

use super::vocab::NumberMap;

/// Strings with a value each.
#[derive(Default)]
pub(super) struct Trie {
    /// Child by `node << 8 | byte`; the root is node 0.
    children: NumberMap<u32>,
    values: Vec<Option<u32>>,
}

impl Trie {
    pub(super) fn insert(&mut self, text: &[u8], value: u32) {
        let mut node = 0;
        if self.values.is_empty() {
            self.values.push(None);
        }
        for &byte in text {
            let fresh = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
            node = *self.children.entry(u64::from(node) << 8 | u64::from(byte)).or_insert(fresh);
            if node == fresh {
                self.values.push(None);
            }
        }
        if !text.is_empty() {
            self.values[node as usize] = Some(value);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Each string at the start of `text`, shortest first: its length and value.
    pub(super) fn prefixes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (usize, u32)> + 'a {
        let mut node = 0;
        text.iter()
            .enumerate()
            .map_while(move |(i, &byte)| {
                node = *self.children.get(&(u64::from(node) << 8 | u64::from(byte)))?;
                Some((i + 1, self.values[node as usize]))
            })
            .filter_map(|(len, value)| value.map(|value| (len, value)))
    }

    /// The longest string at the start of `text`.
    pub(super) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        self.prefixes(text).last()
    }
}
