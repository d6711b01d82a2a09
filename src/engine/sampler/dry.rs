//! `dry`: penalizes tokens that would continue a repetition of an earlier sequence, the more the longer the repetition (p-e-w's
//! "Don't Repeat Yourself" sampler). Sequence breakers end a repetition.

use std::collections::HashMap;

use super::{Candidates, History, Random, SamplerOptions, Stage};
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Maximum tokens of a breaker after its first.
const MAX_TAIL: usize = 40;
/// Logarithm of the greatest single precision number.
const MAX_LOG: f32 = 88.722_84;

pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    last_n: Option<usize>,
    breakers: Breakers,
}

/// The first token of each sequence that ends a repetition, with the tokens that follow it.
pub(super) type Breakers = HashMap<u32, Vec<Vec<u32>>>;

impl Dry {
    pub(super) fn stage(o: &SamplerOptions, tokenizer: Option<&Tokenizer>) -> Option<Box<dyn Stage>> {
        if o.dry_multiplier == 0.0 || o.dry_base < 1.0 || o.dry_last_n == Some(0) {
            return None;
        }
        let breakers = tokenizer.map(|tokenizer| breakers(&o.dry_sequence_breakers, tokenizer)).unwrap_or_default();
        Some(Box::new(Self::new(o, breakers)))
    }

    fn new(o: &SamplerOptions, breakers: Breakers) -> Self {
        Self {
            multiplier: o.dry_multiplier,
            base: o.dry_base,
            allowed_length: o.dry_allowed_length,
            last_n: o.dry_last_n,
            breakers,
        }
    }

    /// Maximum length of a repetition that ends with the last token: back to the last breaker.
    fn limit(&self, reversed: &[u32]) -> usize {
        for (i, token) in reversed.iter().enumerate() {
            let Some(tails) = self.breakers.get(token) else { continue };
            let fits =
                |tail: &&Vec<u32>| tail.len() <= i && tail.iter().zip(reversed[..i].iter().rev()).all(|(a, b)| a == b);
            if let Some(longest) = tails.iter().filter(fits).map(Vec::len).max() {
                return i - longest;
            }
        }
        reversed.len()
    }

    /// The tokens that would continue a repetition, with its present length.
    fn repetitions(&self, reversed: &[u32]) -> HashMap<u32, usize> {
        let mut longest: HashMap<u32, usize> = HashMap::new();
        let limit = self.limit(reversed);
        if reversed.len() <= self.allowed_length || limit < self.allowed_length {
            return longest;
        }
        // The length of the match between the end of the history and what precedes position `k`: the Z function of the reversed history.
        let mut z = vec![0; reversed.len()];
        let (mut left, mut right) = (0, 0);
        for k in 1..reversed.len() {
            let mut n = if k < right { z[k - left].min(right - k) } else { 0 };
            while k + n < reversed.len() && reversed[n] == reversed[k + n] {
                n += 1;
            }
            if k + n > right {
                (left, right) = (k, k + n);
            }
            z[k] = n;
            let n = n.min(limit);
            if n >= self.allowed_length {
                let next = longest.entry(reversed[k - 1]).or_default();
                *next = n.max(*next);
            }
        }
        longest
    }
}

impl Stage for Dry {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "exponents are small")]
    fn apply(&mut self, candidates: &mut Candidates<'_>, history: &History, _: &mut Random) {
        let reversed: Vec<u32> = history.last(self.last_n).iter().rev().copied().collect();
        let max_exponent = if self.base > 1.000_001 { MAX_LOG / self.base.ln() } else { f32::INFINITY };
        for (token, length) in self.repetitions(&reversed) {
            if self.breakers.get(&token).is_some_and(|tails| tails.iter().any(Vec::is_empty)) {
                continue;
            }
            let exponent = ((length - self.allowed_length) as f32).min(max_exponent.floor());
            let growth = self.base.powf(exponent).min(f32::MAX);
            candidates.adjust(token, |logit| logit - self.multiplier * growth);
        }
    }
}

/// The token sequences that contain one of `texts`: a token with all of it, or a token that ends with its start, followed by the
/// tokens of the rest.
fn breakers(texts: &[String], tokenizer: &Tokenizer) -> Breakers {
    let mut found = Breakers::new();
    let vocab = u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    for text in texts.iter().filter(|text| !text.is_empty()) {
        for token in 0..vocab {
            let piece = tokenizer.piece(token);
            if piece.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.entry(token).or_default().push(Vec::new());
                continue;
            }
            let begins = |n: &usize| text.is_char_boundary(*n) && piece.ends_with(&text.as_bytes()[..*n]);
            for n in (1..text.len()).filter(begins) {
                let mut tail = tokenizer.encode(&text[n..], EncodeOptions::default()).unwrap_or_default();
                tail.truncate(MAX_TAIL);
                found.entry(token).or_default().push(tail);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::after;
    use super::*;

    fn options() -> SamplerOptions {
        SamplerOptions {
            dry_multiplier: 1.0,
            dry_base: 2.0,
            dry_allowed_length: 2,
            dry_last_n: None,
            ..SamplerOptions::default()
        }
    }

    /// llama.cpp's own example: `a b c c b c y a b c`, after which `c` would make four of `a b c`, `y` three of `b c`.
    #[test]
    fn what_goes_on_with_a_repetition_is_penalized_by_its_length() {
        let [a, b, c, y] = [0, 1, 2, 3];
        let history = [a, b, c, c, b, c, y, a, b, c];
        let logits = [0.0; 4];
        let found = after(Dry::stage(&options(), None), &logits, &history);
        // base ^ (length - allowed): c 2^(3-2), y 2^(2-2).
        assert_eq!(found, [(a, 0.0), (b, 0.0), (c, -2.0), (y, -1.0)]);
    }

    #[test]
    fn breakers_end_repetitions_and_are_not_penalized() {
        let [a, b, c, y] = [0, 1, 2, 3];
        let history = [a, b, c, c, b, c, y, a, b, c];
        let dry = |breakers: Breakers| Some(Box::new(Dry::new(&options(), breakers)) as Box<dyn Stage>);
        // `b` starts anew: only `c` is left to repeat, too short.
        let found = after(dry(Breakers::from([(b, vec![vec![]])])), &[0.0; 4], &history);
        assert_eq!(found, [(a, 0.0), (b, 0.0), (c, 0.0), (y, 0.0)]);
        // `a` starts anew: two are left.
        let found = after(dry(Breakers::from([(a, vec![vec![]])])), &[0.0; 4], &history);
        assert_eq!(found, [(a, 0.0), (b, 0.0), (c, -1.0), (y, -1.0)]);
        let found = after(dry(Breakers::from([(y, vec![vec![]])])), &[0.0; 4], &history);
        assert_eq!(found[3], (y, 0.0), "a breaker itself is not penalized");
    }

    #[test]
    fn long_repetitions_stay_numbers() {
        let found = after(Dry::stage(&options(), None), &[0.0; 2], &[1; 500]);
        assert!(found[1].1.is_finite() && found[1].1 < -1e30, "{found:?}");
    }
}
