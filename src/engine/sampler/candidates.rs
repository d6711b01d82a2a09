//! The candidates for the next token. Each stage of the chain changes their logits or removes some of them.

use std::cmp::Ordering;

/// A token with its logit, and its probability after [`Candidates::softmax`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: u32,
    pub(super) logit: f32,
    pub(super) p: f32,
}

/// The candidates: at first the whole vocabulary, as logits alone; a list as soon as a stage needs one.
pub(super) struct Candidates<'l> {
    logits: &'l mut [f32],
    list: &'l mut Vec<Candidate>,
    /// Whether no stage has needed the list yet.
    whole: bool,
    /// Whether the list is in descending order of logits.
    sorted: bool,
}

impl<'l> Candidates<'l> {
    /// All tokens of `logits`, `[vocab]`; `list` is a buffer.
    pub(super) fn new(logits: &'l mut [f32], list: &'l mut Vec<Candidate>) -> Self {
        list.clear();
        Self { logits, list, whole: true, sorted: false }
    }

    /// Number of tokens in the vocabulary.
    pub(super) fn vocab_size(&self) -> usize {
        self.logits.len()
    }

    /// Changes the logit of `token`, if it is still a candidate.
    pub(super) fn adjust(&mut self, token: u32, change: impl FnOnce(f32) -> f32) {
        let logit = if self.whole {
            self.logits.get_mut(token as usize)
        } else {
            self.list.iter_mut().find(|c| c.token == token).map(|c| &mut c.logit)
        };
        if let Some(logit) = logit {
            *logit = change(*logit);
            self.sorted = false;
        }
    }

    /// The candidates, at least one. Tokens with a NaN logit are excluded.
    pub(super) fn list(&mut self) -> &mut Vec<Candidate> {
        if self.whole {
            let all = (0u32..).zip(self.logits.iter()).filter(|(_, logit)| !logit.is_nan());
            self.list.extend(all.map(|(token, &logit)| Candidate { token, logit, p: 0.0 }));
            self.listed();
        }
        self.list
    }

    fn listed(&mut self) {
        self.whole = false;
        if self.list.is_empty() {
            self.list.push(Candidate { token: likeliest(self.logits), logit: f32::NEG_INFINITY, p: 1.0 });
        }
    }

    /// Changes all logits; the order must not change.
    pub(super) fn rescale(&mut self, change: impl Fn(f32) -> f32) {
        self.list().iter_mut().for_each(|c| c.logit = change(c.logit));
    }

    /// Keeps the `k` highest logits; all, if `k` is 0.
    pub(super) fn keep_top(&mut self, k: usize) {
        if self.whole && k > 0 && k < self.logits.len() / 2 {
            gather_top(self.logits, k, self.list);
            self.listed();
        }
        let sorted = self.sorted;
        let list = self.list();
        if k > 0 && k < list.len() {
            if !sorted {
                list.select_nth_unstable_by(k - 1, best_first);
            }
            list.truncate(k);
        }
    }

    /// Sorts the candidates, the likeliest first.
    pub(super) fn sort(&mut self) {
        if !self.sorted {
            self.list().sort_unstable_by(best_first);
            self.sorted = true;
        }
    }

    /// Marks the list as unsorted, after a stage has changed the order.
    pub(super) fn unsorted(&mut self) {
        self.sorted = false;
    }

    /// Keeps the first `n` of the sorted candidates, at least one.
    pub(super) fn keep_first(&mut self, n: usize) {
        self.sort();
        self.list().truncate(n.max(1));
    }

    /// Keeps the candidates for which `wanted` is true; all, if it is true for none.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Candidate) -> bool) {
        if self.list().iter().any(&wanted) {
            self.list().retain(wanted);
        }
    }

    /// The highest logit.
    pub(super) fn highest(&mut self) -> f32 {
        self.list().iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Computes the probability of each candidate. Infinite logits share all of the probability.
    pub(super) fn softmax(&mut self) {
        let highest = self.highest();
        let weight = |logit: f32| if logit == highest { 1.0 } else { (logit - highest).exp() };
        let mut sum = 0.0;
        for c in self.list() {
            c.p = weight(c.logit);
            sum += c.p;
        }
        self.list().iter_mut().for_each(|c| c.p /= sum);
    }

    /// Keeps the likeliest candidates that together reach probability `p`, sorted. Sorts no more than necessary. Needs
    /// probabilities.
    pub(super) fn keep_mass(&mut self, p: f32) {
        let already = self.sorted;
        let list = self.list();
        let (mut sum, mut sorted, mut step) = (0.0, 0, 128);
        while sorted < list.len() {
            let rest = &mut list[sorted..];
            let n = step.min(rest.len());
            if !already {
                if n < rest.len() {
                    rest.select_nth_unstable_by(n - 1, best_first);
                }
                rest[..n].sort_unstable_by(best_first);
            }
            for (i, c) in rest[..n].iter().enumerate() {
                sum += c.p;
                if sum >= p {
                    list.truncate(sorted + i + 1);
                    self.sorted = true;
                    return;
                }
            }
            sorted += n;
            step *= 4;
        }
        self.sorted = true;
    }
}

/// Collects a superset of the `top_k` highest logits. A threshold (the current k-th best) rejects most runs of logits with one
/// comparison each, so that only few are collected.
fn gather_top(logits: &[f32], top_k: usize, candidates: &mut Vec<Candidate>) {
    const RUN: usize = 64;
    let room = (4 * top_k).max(4 * RUN);
    let mut bar = f32::NEG_INFINITY;
    for (run, first) in logits.chunks(RUN).zip((0u32..).step_by(RUN)) {
        let open = bar == f32::NEG_INFINITY;
        // Of equal logits, the earlier token wins, and all candidates so far are earlier.
        let above: u32 = run.iter().map(|&logit| u32::from(logit > bar)).sum();
        if above == 0 && !open {
            continue;
        }
        let wanted = (first..).zip(run).filter(|(_, logit)| if open { !logit.is_nan() } else { **logit > bar });
        candidates.extend(wanted.map(|(token, &logit)| Candidate { token, logit, p: 0.0 }));
        if candidates.len() >= room {
            candidates.select_nth_unstable_by(top_k - 1, best_first);
            candidates.truncate(top_k);
            bar = candidates.iter().map(|c| c.logit).fold(f32::INFINITY, f32::min);
        }
    }
}

/// Orders by likelihood, then by token.
pub(super) fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
}

/// The first token with the highest logit.
#[must_use]
pub fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0u32..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn the_highest_of_many_are_those_of_a_full_sort() {
        let mut random = Random::new(3);
        let draw = |random: &mut Random, n: usize, steps: f32| -> Vec<f32> {
            (0..n).map(|_| (random.unit() * steps).floor() / steps * 8.0 - 4.0).collect()
        };
        // Few different logits, so that many are equal; rising and falling ones; NaN and infinities.
        let mut cases = vec![draw(&mut random, 100_000, 50.0), draw(&mut random, 5_001, 1e6)];
        cases.push((0..3000u16).map(f32::from).collect());
        cases.push((0..3000u16).rev().map(f32::from).collect());
        let mut odd = draw(&mut random, 3000, 1e6);
        (0..3000).step_by(7).for_each(|i| odd[i] = [f32::NAN, f32::NEG_INFINITY][i % 2]);
        cases.push(odd);
        cases.push(vec![f32::NEG_INFINITY; 1000]);
        for mut logits in cases {
            for top_k in [1, 2, 40, 500] {
                let mut list = Vec::new();
                Candidates::new(&mut logits, &mut list).keep_top(top_k);
                let mut found: Vec<u32> = list.iter().map(|c| c.token).collect();
                found.sort_unstable();
                let numbers = (0u32..).zip(&logits).filter(|(_, logit)| !logit.is_nan());
                let mut all: Vec<Candidate> =
                    numbers.map(|(token, &logit)| Candidate { token, logit, p: 0.0 }).collect();
                all.sort_by(best_first);
                let mut expected: Vec<u32> = all[..top_k].iter().map(|c| c.token).collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "{top_k} of {}", logits.len());
            }
        }
    }
}
