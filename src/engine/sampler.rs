//! From logits to the next token: repeat penalty, top-k, top-p, min-p, temperature, one draw.
//!
//! The order of the steps and their meaning are llama.cpp's. A vocabulary of 256 k costs one pass over the logits:
//! candidates are picked by partial selection, and never all sorted.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divisor of the logits; 0 or less takes the likeliest token.
    pub temperature: f32,
    /// Only this many likeliest tokens take part; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability take part; 1 or more for all.
    pub top_p: f32,
    /// Only tokens at least this fraction as likely as the likeliest take part; 0 for all.
    pub min_p: f32,
    /// Logits of recent tokens are divided (or, below zero, multiplied) by this; 1 for none.
    pub repeat_penalty: f32,
    /// How many tokens are recent.
    pub repeat_last_n: usize,
    /// Start of the random numbers: the same seed gives the same text.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, repeat_penalty: 1.0, repeat_last_n: 64, seed: 0 }
    }
}

impl SamplerOptions {
    /// Always the likeliest token.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

/// Chooses tokens, and remembers the recent ones.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: SplitMix64,
    recent: VecDeque<u32>,
    candidates: Vec<Candidate>,
}

/// A token with its logit, later its probability.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    score: f32,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    #[must_use]
    pub fn new(options: SamplerOptions) -> Self {
        let random = SplitMix64(options.seed);
        Self { options, random, recent: VecDeque::new(), candidates: Vec::new() }
    }

    /// Counts `token` among the recent ones: call it for the prompt's tokens and for every token that is kept.
    pub fn accept(&mut self, token: u32) {
        if self.options.repeat_penalty != 1.0 && self.options.repeat_last_n > 0 {
            if self.recent.len() == self.options.repeat_last_n {
                self.recent.pop_front();
            }
            self.recent.push_back(token);
        }
    }

    /// The next token by its `logits`, `[vocab]`, which the repeat penalty changes in place.
    ///
    /// # Panics
    /// When `logits` is empty.
    pub fn sample(&mut self, logits: &mut [f32]) -> u32 {
        assert!(!logits.is_empty(), "no logits");
        self.penalize(logits);
        if self.options.temperature <= 0.0 || self.options.top_k == 1 {
            return likeliest(logits);
        }
        self.pick_candidates(logits);
        self.weigh(1.0);
        self.cut();
        if self.options.temperature != 1.0 {
            // The cuts look at the model's own probabilities; the temperature shapes what they leave.
            for c in &mut self.candidates {
                c.score = logits[c.token as usize];
            }
            self.weigh(self.options.temperature);
        }
        self.draw()
    }

    fn penalize(&self, logits: &mut [f32]) {
        let penalty = self.options.repeat_penalty;
        let mut seen: Vec<u32> = self.recent.iter().copied().collect();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Fills `candidates` with the top-k logits, in no order.
    fn pick_candidates(&mut self, logits: &[f32]) {
        let top_k = self.options.top_k;
        let candidates = &mut self.candidates;
        candidates.clear();
        if top_k == 0 || top_k >= logits.len() / 2 {
            let all = (0u32..).zip(logits).filter(|(_, score)| !score.is_nan());
            candidates.extend(all.map(|(token, &score)| Candidate { token, score }));
        } else {
            gather_top(logits, top_k, candidates);
        }
        if candidates.is_empty() {
            candidates.push(Candidate { token: likeliest(logits), score: 0.0 });
        }
        keep_top(candidates, top_k);
    }

    /// Softmax of the candidates' scores over `temperature`.
    fn weigh(&mut self, temperature: f32) {
        let highest = self.highest();
        let mut sum = 0.0;
        for c in &mut self.candidates {
            c.score = ((c.score - highest) / temperature).exp();
            sum += c.score;
        }
        for c in &mut self.candidates {
            c.score /= sum;
        }
    }

    /// Top-p, then min-p, over probabilities; at least one candidate stays.
    fn cut(&mut self) {
        if self.options.top_p < 1.0 {
            let kept = self.top_p_prefix();
            self.candidates.truncate(kept);
        }
        let floor = self.highest() * self.options.min_p.min(1.0);
        self.candidates.retain(|c| c.score >= floor);
    }

    /// Brings the likeliest candidates that together reach top-p to the front, and counts them.
    fn top_p_prefix(&mut self) -> usize {
        let candidates = &mut self.candidates;
        let (mut sum, mut sorted, mut step) = (0.0, 0, 128);
        while sorted < candidates.len() {
            let rest = &mut candidates[sorted..];
            let n = step.min(rest.len());
            if n < rest.len() {
                rest.select_nth_unstable_by(n - 1, best_first);
            }
            rest[..n].sort_unstable_by(best_first);
            for (i, c) in rest[..n].iter().enumerate() {
                sum += c.score;
                if sum >= self.options.top_p {
                    return sorted + i + 1;
                }
            }
            sorted += n;
            step *= 4;
        }
        sorted
    }

    fn highest(&self) -> f32 {
        self.candidates.iter().map(|c| c.score).fold(f32::NEG_INFINITY, f32::max)
    }

    fn draw(&mut self) -> u32 {
        let sum: f32 = self.candidates.iter().map(|c| c.score).sum();
        let mut left = self.random.unit() * sum;
        for c in &self.candidates {
            left -= c.score;
            if left < 0.0 {
                return c.token;
            }
        }
        self.candidates[self.candidates.len() - 1].token
    }
}

/// Leaves the `top_k` best candidates, in no order; all, where that is 0.
fn keep_top(candidates: &mut Vec<Candidate>, top_k: usize) {
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, best_first);
        candidates.truncate(top_k);
    }
}

/// The logits that may be among the `top_k` highest, those included: few beside the vocabulary, because most lie below
/// the least of the best so far, and to be counted as such, a run at a time, is all that happens to them.
fn gather_top(logits: &[f32], top_k: usize, candidates: &mut Vec<Candidate>) {
    const RUN: usize = 64;
    let room = (4 * top_k).max(4 * RUN);
    let mut bar = f32::NEG_INFINITY;
    for (run, first) in logits.chunks(RUN).zip((0u32..).step_by(RUN)) {
        let open = bar == f32::NEG_INFINITY;
        // At the bar, an earlier token is ahead of a later one, and those that made it are all earlier.
        let above: u32 = run.iter().map(|&score| u32::from(score > bar)).sum();
        if above == 0 && !open {
            continue;
        }
        let wanted = (first..).zip(run).filter(|(_, score)| if open { !score.is_nan() } else { **score > bar });
        candidates.extend(wanted.map(|(token, &score)| Candidate { token, score }));
        if candidates.len() >= room {
            keep_top(candidates, top_k);
            bar = candidates.iter().map(|c| c.score).fold(f32::INFINITY, f32::min);
        }
    }
}

fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
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

/// Steele, Lea and Flood's generator: small, and good enough to draw tokens.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    #[allow(clippy::cast_precision_loss, reason = "24 bits fit")]
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(options: SamplerOptions, logits: &[f32], draws: usize) -> Vec<f32> {
        let mut sampler = Sampler::new(options);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(&mut logits.to_vec()) as usize] += 1.0;
        }
        counts.iter().map(|c| c / draws as f32).collect()
    }

    fn open() -> SamplerOptions {
        SamplerOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7, ..SamplerOptions::default() }
    }

    #[test]
    fn draws_follow_the_softmax() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let f = frequencies(open(), &logits, 20_000);
        for (found, expected) in f.iter().zip([0.5, 0.3, 0.2]) {
            assert!((found - expected).abs() < 0.02, "{f:?}");
        }
        let sharp = frequencies(SamplerOptions { temperature: 0.5, ..open() }, &logits, 20_000);
        assert!((sharp[0] - 0.25 / 0.38).abs() < 0.02, "{sharp:?}");
    }

    #[test]
    fn cuts_leave_the_likeliest() {
        let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1].iter().map(|p| p.ln()).collect();
        let top_k = frequencies(SamplerOptions { top_k: 2, ..open() }, &logits, 2000);
        assert!(top_k[2] == 0.0 && top_k[3] == 0.0 && top_k[1] > 0.0);
        let top_p = frequencies(SamplerOptions { top_p: 0.65, ..open() }, &logits, 2000);
        assert!(top_p[2] == 0.0 && top_p[1] > 0.0);
        let min_p = frequencies(SamplerOptions { min_p: 0.6, ..open() }, &logits, 2000);
        assert!(min_p[2] == 0.0 && min_p[1] > 0.0);
        let strict = frequencies(SamplerOptions { min_p: 1.0, top_p: 0.0, ..open() }, &logits, 100);
        assert_eq!(strict[0], 1.0);
    }

    #[test]
    fn greedy_takes_the_first_highest() {
        let mut sampler = Sampler::new(SamplerOptions::greedy());
        assert_eq!(sampler.sample(&mut [1.0, 3.0, 3.0, f32::NAN]), 1);
    }

    #[test]
    fn the_highest_of_many_are_those_of_a_full_sort() {
        let mut random = SplitMix64(3);
        let draw = |random: &mut SplitMix64, n: usize, steps: f32| -> Vec<f32> {
            (0..n).map(|_| (random.unit() * steps).floor() / steps * 8.0 - 4.0).collect()
        };
        // Few different logits, so that many are equal; rising and falling ones; holes and infinities.
        let mut cases = vec![draw(&mut random, 100_000, 50.0), draw(&mut random, 5_001, 1e6)];
        cases.push((0..3000u16).map(f32::from).collect());
        cases.push((0..3000u16).rev().map(f32::from).collect());
        let mut odd = draw(&mut random, 3000, 1e6);
        (0..3000).step_by(7).for_each(|i| odd[i] = [f32::NAN, f32::NEG_INFINITY][i % 2]);
        cases.push(odd);
        cases.push(vec![f32::NEG_INFINITY; 1000]);
        for logits in cases {
            for top_k in [1, 2, 40, 500] {
                let mut sampler = Sampler::new(SamplerOptions { top_k, ..SamplerOptions::default() });
                sampler.pick_candidates(&logits);
                let mut found: Vec<u32> = sampler.candidates.iter().map(|c| c.token).collect();
                found.sort_unstable();
                let numbers = (0u32..).zip(&logits).filter(|(_, score)| !score.is_nan());
                let mut all: Vec<Candidate> = numbers.map(|(token, &score)| Candidate { token, score }).collect();
                all.sort_by(best_first);
                let mut expected: Vec<u32> = all[..top_k].iter().map(|c| c.token).collect();
                expected.sort_unstable();
                assert_eq!(found, expected, "{top_k} of {}", logits.len());
            }
        }
    }

    #[test]
    fn repeat_penalty_pushes_recent_tokens_down() {
        let options = SamplerOptions { repeat_penalty: 2.0, repeat_last_n: 1, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options);
        sampler.accept(1);
        assert_eq!(sampler.sample(&mut [1.0, 1.5]), 0);
        assert_eq!(sampler.sample(&mut [-1.0, -0.75]), 0);
        sampler.accept(0);
        assert_eq!(sampler.sample(&mut [1.0, 0.9]), 1, "only the last token is recent");
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..1000u16).map(|i| f32::from(i % 17)).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(SamplerOptions { seed, ..SamplerOptions::default() });
            (0..50).map(|_| sampler.sample(&mut logits.clone())).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
