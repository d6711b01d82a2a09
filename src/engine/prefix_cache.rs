//! States of earlier requests, for later ones that begin with the same tokens.
//!
//! A state is a clone of a sequence and shares its pages with it. A network of full attention can go back to every position, so
//! that any common beginning is of use; with windows and recurrences, only a beginning that was stored is.

use crate::cpu::Sequence;

/// States, at most: looking through them takes time.
const MOST: usize = 256;

struct Entry {
    /// Requests of another salt do not see it.
    salt: u64,
    tokens: Vec<u32>,
    sequence: Sequence,
    /// When it was last of use.
    used: u64,
}

/// The states, the least recently used of which goes first.
#[derive(Default)]
pub(super) struct PrefixCache {
    entries: Vec<Entry>,
    clock: u64,
}

impl PrefixCache {
    /// States held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tokens of the longest stored beginning of `tokens` that can be gone on from.
    pub(super) fn longest(&self, salt: u64, tokens: &[u32]) -> usize {
        self.best(salt, tokens).map_or(0, |(_, kept)| kept)
    }

    /// A state with the longest stored beginning of `tokens`. At least the last token is left to evaluate: its logits are what is
    /// wanted.
    pub(super) fn find(&mut self, salt: u64, tokens: &[u32]) -> Option<Sequence> {
        let (index, kept) = self.best(salt, tokens)?;
        self.clock += 1;
        self.entries[index].used = self.clock;
        let mut sequence = self.entries[index].sequence.clone();
        sequence.truncate(kept).then_some(sequence)
    }

    fn best(&self, salt: u64, tokens: &[u32]) -> Option<(usize, usize)> {
        let most = tokens.len().saturating_sub(1);
        let usable = |entry: &Entry| {
            let kept = common(&entry.tokens, tokens).min(most);
            (entry.salt == salt && kept > 0 && (entry.sequence.goes_back() || kept == entry.tokens.len()))
                .then_some(kept)
        };
        let found = self.entries.iter().enumerate().filter_map(|(i, entry)| Some((i, usable(entry)?)));
        found.max_by_key(|&(i, kept)| (kept, self.entries[i].used))
    }

    /// Keeps the state after `tokens`.
    pub(super) fn insert(&mut self, salt: u64, tokens: &[u32], sequence: Sequence) {
        debug_assert_eq!(tokens.len(), sequence.len());
        if tokens.is_empty() {
            return;
        }
        self.clock += 1;
        let goes_back = sequence.goes_back();
        let covers = |long: &[u32], short: &[u32]| if goes_back { long.starts_with(short) } else { long == short };
        if let Some(known) = self.entries.iter_mut().find(|e| e.salt == salt && covers(&e.tokens, tokens)) {
            known.used = self.clock;
            return;
        }
        self.entries.retain(|entry| entry.salt != salt || !covers(tokens, &entry.tokens));
        if self.entries.len() >= MOST {
            self.evict();
        }
        self.entries.push(Entry { salt, tokens: tokens.to_vec(), sequence, used: self.clock });
    }

    /// Forgets the least recently used state. False where there is none.
    pub(super) fn evict(&mut self) -> bool {
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used).map(|(i, _)| i);
        oldest.map(|i| self.entries.swap_remove(i)).is_some()
    }

    /// The memory of all states, as [`Sequence::visit_memory`] tells it.
    pub(super) fn visit_memory(&self, visit: &mut dyn FnMut(usize, usize)) {
        self.entries.iter().for_each(|entry| entry.sequence.visit_memory(visit));
    }
}

/// Number of tokens that both begin with.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
