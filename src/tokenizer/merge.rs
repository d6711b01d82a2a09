//! The loop of all byte-pair encodings: merge the best pair of neighbours until none is left.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// With fewer symbols, pairs are searched again after each merge, which is faster than a heap.
const SHORT: usize = 32;

/// No symbol.
const NONE: u32 = u32::MAX;

/// The merges of a tokenizer.
pub(super) trait Pairs {
    /// The joined symbol of `left` and `right` and its rank; the lowest rank is joined first.
    fn join(&self, left: &Symbol, right: &Symbol) -> Option<(Rank, u32)>;
}

/// Order of merges, lowest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rank(pub(super) f32);

/// A symbol: a token (or [`Symbol::NO_TOKEN`]) and its bytes in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub(super) token: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

impl Symbol {
    pub(super) const NO_TOKEN: u32 = u32::MAX;
}

/// Merges symbols, in place, until no pair can be merged. Of pairs of the same rank the leftmost is first.
pub(super) fn merge(symbols: &mut Vec<Symbol>, pairs: &impl Pairs) {
    if symbols.len() <= SHORT { merge_short(symbols, pairs) } else { merge_long(symbols, pairs) }
}

fn merge_short(symbols: &mut Vec<Symbol>, pairs: &impl Pairs) {
    let mut joins = [None; SHORT];
    for i in 1..symbols.len() {
        joins[i - 1] = pairs.join(&symbols[i - 1], &symbols[i]);
    }
    loop {
        let mut best: Option<(usize, Rank, u32)> = None;
        for (i, join) in joins.iter().enumerate().take(symbols.len().saturating_sub(1)) {
            if let Some((rank, token)) = *join
                && best.is_none_or(|(_, best, _)| rank.0 < best.0)
            {
                best = Some((i, rank, token));
            }
        }
        let Some((i, _, token)) = best else { return };
        let right = symbols.remove(i + 1);
        symbols[i].token = token;
        symbols[i].len += right.len;
        joins.copy_within(i + 1.., i);
        joins[SHORT - 1] = None;
        if i + 1 < symbols.len() {
            joins[i] = pairs.join(&symbols[i], &symbols[i + 1]);
        } else {
            joins[i] = None;
        }
        if i > 0 {
            joins[i - 1] = pairs.join(&symbols[i - 1], &symbols[i]);
        }
    }
}

/// A pair in the heap, valid while both symbols have the same lengths.
struct Candidate {
    /// Rank, then place: the lowest goes first.
    order: u64,
    right: u32,
    len: u32,
    token: u32,
}

impl Candidate {
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    fn left(&self) -> u32 {
        self.order as u32
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap returns the greatest first.
        other.order.cmp(&self.order)
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Candidate {}

impl Rank {
    /// An integer in the order of ranks.
    fn ordinal(self) -> u32 {
        // Positive floats are ordered like their bits, negative ones in reverse order below them.
        let bits = self.0.to_bits();
        if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
    }
}

fn merge_long(symbols: &mut Vec<Symbol>, pairs: &impl Pairs) {
    let count = u32::try_from(symbols.len()).unwrap_or(NONE);
    let mut previous: Vec<u32> = (0..count).map(|i| i.wrapping_sub(1)).collect();
    let mut next: Vec<u32> = (1..=count).map(|i| if i == count { NONE } else { i }).collect();
    let candidate = |symbols: &[Symbol], left: u32, right: u32| {
        let (a, b) = (&symbols[left as usize], &symbols[right as usize]);
        pairs.join(a, b).map(|(rank, token)| {
            let order = u64::from(rank.ordinal()) << 32 | u64::from(left);
            Candidate { order, right, len: a.len + b.len, token }
        })
    };
    let mut heap: BinaryHeap<Candidate> = (1..count).filter_map(|i| candidate(symbols, i - 1, i)).collect();
    while let Some(best) = heap.pop() {
        let (left, Candidate { right, len, token, .. }) = (best.left(), best);
        let (l, r) = (left as usize, right as usize);
        if symbols[l].len + symbols[r].len != len || symbols[l].len == 0 || symbols[r].len == 0 || next[l] != right {
            continue;
        }
        symbols[l].token = token;
        symbols[l].len = len;
        symbols[r].len = 0;
        next[l] = next[r];
        if next[r] != NONE {
            previous[next[r] as usize] = left;
            heap.extend(candidate(symbols, left, next[l]));
        }
        if previous[l] != NONE {
            heap.extend(candidate(symbols, previous[l], left));
        }
    }
    symbols.retain(|symbol| symbol.len > 0);
}

#[cfg(test)]
mod tests {
    use super::Rank;

    #[test]
    fn ordinals_are_in_the_order_of_ranks() {
        let ranks = [f32::NEG_INFINITY, -1e9, -3.5, -1.0, 0.0, 1e-3, 2.0, 1e9, f32::INFINITY];
        assert!(ranks.windows(2).all(|pair| Rank(pair[0]).ordinal() < Rank(pair[1]).ordinal()));
    }
}
