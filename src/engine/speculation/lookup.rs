//! Drafts without a model: what followed the longest earlier occurrence of the text's last tokens, in prompt and answer.

use std::collections::{HashMap, HashSet};

use super::{Confidence, Draft, Drafter, Text};
use crate::engine::prefix_cache::common;
use crate::kernels::Pool;

/// Earlier occurrences that are compared, the latest first.
const CANDIDATES: usize = 64;
/// Longest match that is told from a longer one.
const LONGEST: usize = 32;
/// No position.
const NONE: u32 = u32::MAX;

/// The texts, with where their pairs of tokens stand.
#[derive(Default)]
pub(super) struct Lookup {
    texts: HashMap<u64, Index>,
}

/// Where each pair of neighbours stands in a text.
#[derive(Default)]
struct Index {
    tokens: Vec<u32>,
    /// Where the second token of a pair stood last.
    latest: HashMap<(u32, u32), u32>,
    /// For each position, where the same pair stood before.
    earlier: Vec<u32>,
}

impl Index {
    /// Goes on to `tokens`, or begins anew where these do not go on from what is known.
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

    /// The position after the longest match of the text's end, and its length in tokens.
    fn find(&self) -> Option<(usize, usize)> {
        let end = self.tokens.len();
        let mut best: Option<(usize, usize)> = None;
        let mut at = *self.earlier.last()?;
        for _ in 0..CANDIDATES {
            if at == NONE {
                break;
            }
            let next = at as usize + 1;
            let pairs = self.tokens[..next].iter().rev().zip(self.tokens[..end].iter().rev());
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
    fn usual(&self, confidence: Confidence) -> f64 {
        1.0 - 1.0 / (1.0 + 0.4 * confidence as f64)
    }

    fn draft(
        &mut self,
        _: &Pool,
        texts: &[Text<'_>],
        drafts: &mut [Draft],
        _: &mut dyn FnMut(usize, &[Confidence], f64) -> bool,
    ) {
        for (text, draft) in texts.iter().zip(drafts) {
            if text.most == 0 || !draft.tokens.is_empty() {
                continue;
            }
            let index = self.texts.entry(text.id).or_default();
            index.update(text.tokens);
            let Some((next, len)) = index.find() else { continue };
            for i in 0..text.most {
                // A text that repeats itself goes on with what has just been drafted.
                let known = index.tokens.get(next + i).or_else(|| draft.tokens.get(next + i - index.tokens.len()));
                let Some(&token) = known else { break };
                draft.push(token, len + i);
            }
        }
    }

    fn retain(&mut self, texts: &HashSet<u64>) {
        self.texts.retain(|id, _| texts.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(lookup: &mut Lookup, tokens: &[u32], most: usize) -> Vec<u32> {
        let text = Text { id: 1, salt: 0, store: true, tokens, rows: 1, most };
        let mut drafts = [Draft::default()];
        lookup.draft(&Pool::new(1), &[text], &mut drafts, &mut |_, _, _| true);
        drafts[0].tokens.clone()
    }

    #[test]
    fn the_longest_match_wins_then_the_latest() {
        let mut lookup = Lookup::default();
        assert!(draft(&mut lookup, &[1, 2, 3], 4).is_empty());
        // 2 3 stands after 1 and after 9; after 1 it is the longer match.
        assert_eq!(draft(&mut lookup, &[1, 2, 3, 4, 5, 9, 2, 3, 6, 7, 1, 2, 3], 2), [4, 5]);
        assert_eq!(draft(&mut lookup, &[1, 2, 3, 4, 5, 9, 2, 3, 6, 7, 8, 2, 3], 2), [6, 7]);
        // The text may also be another one.
        assert_eq!(draft(&mut lookup, &[8, 8, 2, 8, 8], 1), [2]);
        assert!(draft(&mut lookup, &[8], 1).is_empty());
    }

    #[test]
    fn repetitions_go_on() {
        let mut lookup = Lookup::default();
        assert_eq!(draft(&mut lookup, &[5, 1, 2, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
        assert_eq!(draft(&mut lookup, &[5, 1, 2, 1, 2, 1, 2, 1], 3), [2, 1, 2]);
        assert_eq!(draft(&mut lookup, &[7, 7, 7], 4), [7, 7, 7, 7]);
    }
}
