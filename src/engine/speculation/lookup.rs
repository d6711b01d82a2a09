//! Drafts without a model: the tokens that followed an earlier occurrence of the text's last tokens, in prompt or answer.

use std::collections::{HashMap, HashSet};

use super::{Confidence, Draft, DraftRequest, Drafter};
use crate::engine::prefix_cache::common;
use crate::kernels::Pool;

/// Maximum number of earlier occurrences that are compared, the latest first.
const CANDIDATES: usize = 64;
/// Matches of this many tokens are not compared further.
const LONGEST: usize = 32;
/// Stands for "no position".
const NONE: u32 = u32::MAX;

/// The lookup: an index of each text.
#[derive(Default)]
pub(super) struct Lookup {
    indices: HashMap<u64, Index>,
}

/// Where each pair of adjacent tokens occurs in a text.
#[derive(Default)]
struct Index {
    tokens: Vec<u32>,
    /// For each pair, the position of its second token where it occurred last.
    latest: HashMap<(u32, u32), u32>,
    /// For each position, where the pair that ends there occurred before.
    earlier: Vec<u32>,
}

impl Index {
    /// Makes this the index of `tokens`: adds what is new, or starts again if `tokens` do not continue the indexed text.
    fn update(&mut self, tokens: &[u32]) {
        if common(&self.tokens, tokens) < self.tokens.len() {
            *self = Self::default();
        }
        for (i, &token) in (0u32..).zip(tokens).skip(self.tokens.len()) {
            let before = self.tokens.last().and_then(|&last| self.latest.insert((last, token), i));
            self.earlier.push(before.unwrap_or(NONE));
            self.tokens.push(token);
        }
    }

    /// The position after the longest match of the text's end, and the length of the match in tokens. Of matches of the same
    /// length, the latest.
    fn find(&self) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        let mut at = *self.earlier.last()?;
        for _ in 0..CANDIDATES {
            if at == NONE {
                break;
            }
            let next = at as usize + 1;
            let pairs = self.tokens[..next].iter().rev().zip(self.tokens.iter().rev());
            let len = pairs.take(LONGEST).take_while(|(a, b)| a == b).count();
            if best.is_none_or(|(_, longest)| len > longest) {
                best = Some((next, len));
            }
            at = self.earlier[at as usize];
        }
        best
    }
}

impl Drafter for Lookup {
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    fn default_rate(&self, confidence: Confidence) -> f64 {
        1.0 - 1.0 / (1.0 + 0.4 * confidence as f64)
    }

    fn draft(
        &mut self,
        _: &Pool,
        requests: &mut [DraftRequest<'_>],
        drafts: &mut [Draft],
        _: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
        _: &mut dyn FnMut() -> bool,
    ) {
        for (request, draft) in requests.iter().zip(drafts) {
            if request.max_tokens == 0 || !draft.tokens.is_empty() {
                continue;
            }
            let index = self.indices.entry(request.text_id).or_default();
            index.update(request.tokens);
            let Some((next, len)) = index.find() else { continue };
            for i in 0..request.max_tokens {
                // If the match reaches the end of the text, the text repeats itself: the draft continues with its own tokens.
                let known = index.tokens.get(next + i).or_else(|| draft.tokens.get(next + i - index.tokens.len()));
                let Some(&token) = known else { break };
                draft.push(token, len + i);
            }
        }
    }

    fn retain(&mut self, texts: &HashSet<u64>) {
        self.indices.retain(|id, _| texts.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(lookup: &mut Lookup, tokens: &[u32], max_tokens: usize) -> Vec<u32> {
        let sequence = &mut crate::cpu::Sequence::without_layers();
        let request = DraftRequest { text_id: 1, salt: 0, store: true, tokens, rows: 1, max_tokens, sequence };
        let mut drafts = [Draft::default()];
        lookup.draft(&Pool::new(1), &mut [request], &mut drafts, &mut |_, _, _| true, &mut || false);
        drafts[0].tokens.clone()
    }

    #[test]
    fn the_longest_match_wins_then_the_latest() {
        let mut lookup = Lookup::default();
        assert!(draft(&mut lookup, &[1, 2, 3], 4).is_empty());
        // 2 3 occurs after 1 and after 9; after 1 the match is longer.
        assert_eq!(draft(&mut lookup, &[1, 2, 3, 4, 5, 9, 2, 3, 6, 7, 1, 2, 3], 2), [4, 5]);
        assert_eq!(draft(&mut lookup, &[1, 2, 3, 4, 5, 9, 2, 3, 6, 7, 8, 2, 3], 2), [6, 7]);
        // The same text id with other tokens.
        assert_eq!(draft(&mut lookup, &[8, 8, 2, 8, 8], 1), [2]);
        assert!(draft(&mut lookup, &[8], 1).is_empty());
    }

    #[test]
    fn repetitions_are_continued() {
        let mut lookup = Lookup::default();
        assert_eq!(draft(&mut lookup, &[5, 1, 2, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
        assert_eq!(draft(&mut lookup, &[5, 1, 2, 1, 2, 1, 2, 1], 3), [2, 1, 2]);
        assert_eq!(draft(&mut lookup, &[7, 7, 7], 4), [7, 7, 7, 7]);
    }
}
