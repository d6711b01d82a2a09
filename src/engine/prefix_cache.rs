//! The prefix cache: states of earlier requests, for later ones that begin with the same tokens.
//!
//! A state is a clone of a sequence and shares its pages with it. With full attention a state can be truncated to any position, so
//! that any common prefix is useful. With sliding windows and recurrences, only a stored prefix as a whole is.

use crate::cpu::Sequence;

/// Maximum number of states, since all are searched.
const MOST: usize = 256;
/// Number of states that are few.
const FEW: usize = 192;

struct Entry {
    /// Only requests with the same salt use it.
    salt: u64,
    tokens: Vec<u32>,
    sequence: Sequence,
    /// Time of its last use.
    used: u64,
}

/// The states; the least recently used is evicted first.
#[derive(Default)]
pub(super) struct PrefixCache {
    entries: Vec<Entry>,
    clock: u64,
    crowded: bool,
}

impl PrefixCache {
    /// Number of states.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the memory of new states should come from old ones: from when there are as many as there may be, until there are few
    /// again.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Length of the longest stored prefix of `tokens` that can be continued.
    pub(super) fn longest(&self, salt: u64, tokens: &[u32]) -> usize {
        self.best(salt, tokens).map_or(0, |(_, kept)| kept)
    }

    /// A state with the longest stored prefix of `tokens`. At least the last token is left to evaluate, since its logits are
    /// needed.
    pub(super) fn find(&mut self, salt: u64, tokens: &[u32]) -> Option<Sequence> {
        let (index, kept) = self.best(salt, tokens)?;
        self.clock += 1;
        self.entries[index].used = self.clock;
        let mut sequence = self.entries[index].sequence.clone();
        sequence.truncate(kept).then_some(sequence)
    }

    /// The state after exactly these tokens.
    pub(super) fn exact(&self, salt: u64, tokens: &[u32]) -> Option<Sequence> {
        let mut of_salt = self.entries.iter().filter(|entry| entry.salt == salt && !tokens.is_empty());
        let entry = of_salt.find(|entry| {
            entry.tokens.starts_with(tokens) && (entry.tokens.len() == tokens.len() || entry.sequence.goes_back())
        })?;
        let mut sequence = entry.sequence.clone();
        sequence.truncate(tokens.len()).then_some(sequence)
    }

    /// Removes the states after these tokens and after beginnings of them.
    pub(super) fn forget(&mut self, salt: u64, tokens: &[u32]) {
        self.entries.retain(|entry| entry.salt != salt || !tokens.starts_with(&entry.tokens));
        self.crowded &= self.entries.len() > FEW;
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

    /// Stores the state after `tokens`.
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
        self.crowded |= self.entries.len() >= MOST;
    }

    /// Removes the least recently used state. Returns false if there is none.
    pub(super) fn evict(&mut self) -> bool {
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used).map(|(i, _)| i);
        let evicted = oldest.map(|i| self.entries.swap_remove(i)).is_some();
        self.crowded &= self.entries.len() > FEW;
        evicted
    }
}

/// Number of tokens that both begin with.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
