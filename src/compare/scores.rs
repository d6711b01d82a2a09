//! The figures of one position: the base's probabilities, and how far a model's are from them.
//!
//! Definitions and precisions are those of llama-perplexity (`--kl-divergence`): single precision where it uses that, and
//! double precision for sums over the vocabulary.

#![allow(clippy::cast_possible_truncation, reason = "figures of a position are in single precision")]

use crate::kernels::vector::log_sum_exp;

/// Tokens with a smaller log-probability in the base do not count for the divergence.
const LEAST_LOG_PROB: f32 = -16.0;

/// The base's figures at a position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BaseScore {
    /// Negative log-likelihood of the token that follows, in nats.
    pub nll: f32,
    /// The likeliest token.
    pub top: u32,
}

/// A model's figures at a position, relative to the base.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Negative log-likelihood of the token that follows, in nats.
    pub nll: f32,
    /// Kullback-Leibler divergence of the model's distribution from the base's, in nats.
    pub kl: f32,
    /// The change of the next token's probability relative to the base, from -1 to 1.
    pub p_change: f32,
    /// The likeliest token.
    pub top: u32,
}

/// The base's distribution at a position, in the form for comparisons.
#[derive(Clone, Debug, Default)]
pub(super) struct BaseRow {
    /// Log-probabilities, `[vocab]`; zero for tokens that do not count.
    log_probs: Vec<f32>,
    /// Probabilities, `[vocab]`; zero below [`LEAST_LOG_PROB`].
    probs: Vec<f32>,
    score: BaseScore,
}

impl BaseRow {
    /// Sets the distribution to these log-probabilities; `target` is the next token of the text.
    pub(super) fn set(&mut self, log_probs: impl ExactSizeIterator<Item = f32>, target: u32) {
        self.log_probs.clear();
        self.log_probs.extend(log_probs);
        let own = self.log_probs.get(target as usize).copied().unwrap_or(f32::NAN);
        self.score = BaseScore { nll: -own, top: first_max(&self.log_probs) };
        self.probs.clear();
        self.probs.extend(self.log_probs.iter_mut().map(|value| {
            if *value > LEAST_LOG_PROB {
                return value.exp();
            }
            // Infinite values do not enter the sums; NaN does.
            *value = if value.is_nan() { f32::NAN } else { 0.0 };
            *value
        }));
    }

    /// As [`set`](Self::set), from logits.
    pub(super) fn set_logits(&mut self, logits: &[f32], target: u32) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = (log_sum_exp(logits) - f64::from(max)) as f32;
        self.set(logits.iter().map(|&logit| logit - max - log_sum), target);
    }

    /// The base's figures.
    pub(super) fn score(&self) -> BaseScore {
        self.score
    }

    /// The figures of a model with these logits.
    pub(super) fn compare(&self, logits: &[f32], target: u32) -> Score {
        let log_sum = log_sum_exp(logits) as f32;
        let own = logits.get(target as usize).copied().unwrap_or(f32::NAN);
        let nll = log_sum - own;
        let p_change = (-nll).exp() - (-self.score.nll).exp();
        Score { nll, kl: self.divergence(logits, log_sum) as f32, p_change, top: first_max(logits) }
    }

    /// `sum(p * (ln p - ln q))`, where `ln q` is a logit less `log_sum`.
    fn divergence(&self, logits: &[f32], log_sum: f32) -> f64 {
        const LANES: usize = 8;
        let term = |p: f32, log_p: f32, logit: f32| {
            let term = p * (log_p - logit + log_sum);
            if p == 0.0 { 0.0 } else { f64::from(term) }
        };
        let mut sums = [0.0; LANES];
        let whole = self.probs.len() / LANES * LANES;
        let (probs, log_probs) = (self.probs.as_chunks::<LANES>().0, self.log_probs.as_chunks::<LANES>().0);
        for ((p, log_p), x) in probs.iter().zip(log_probs).zip(logits.as_chunks::<LANES>().0) {
            for i in 0..LANES {
                sums[i] += term(p[i], log_p[i], x[i]);
            }
        }
        let rest = whole..self.probs.len().min(logits.len());
        sums.iter().sum::<f64>() + rest.map(|i| term(self.probs[i], self.log_probs[i], logits[i])).sum::<f64>()
    }
}

/// The index of the first greatest value.
fn first_max(values: &[f32]) -> u32 {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter().position(|&value| value >= max).unwrap_or(0) as u32
}

#[cfg(test)]
mod tests {
    use super::BaseRow;

    fn truth(base: &[f32], model: &[f32]) -> f64 {
        let logs = |x: &[f32]| {
            let sum = x.iter().map(|&v| f64::from(v).exp()).sum::<f64>().ln();
            x.iter().map(|&v| f64::from(v) - sum).collect::<Vec<_>>()
        };
        let (p, q) = (logs(base), logs(model));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    }

    #[test]
    fn a_position_has_the_figures_of_its_definition() {
        for vocab in [3u16, 8, 37, 300] {
            let base: Vec<f32> = (0..vocab).map(|i| f32::from(i * 37 % 101) * 0.1).collect();
            let model: Vec<f32> = (0..vocab).map(|i| f32::from(i * 53 % 97) * 0.1 + 3.0).collect();
            let mut row = BaseRow::default();
            row.set_logits(&base, 1);
            let score = row.compare(&model, 1);
            assert!((f64::from(score.kl) / truth(&base, &model) - 1.0).abs() < 1e-4, "{vocab}: {score:?}");
            let p = |x: &[f32]| f64::from(x[1]).exp() / x.iter().map(|&v| f64::from(v).exp()).sum::<f64>();
            assert!((f64::from(score.nll) + p(&model).ln()).abs() < 1e-4);
            assert!((f64::from(row.score().nll) + p(&base).ln()).abs() < 1e-4);
            assert!((f64::from(score.p_change) - (p(&model) - p(&base))).abs() < 1e-6);
            assert_eq!(row.compare(&base, 1).kl.abs().max(1e-5), 1e-5, "a model does not differ from itself");
        }
    }

    #[test]
    fn tokens_that_cannot_be_do_not_count_and_what_is_no_number_is_seen() {
        let mut row = BaseRow::default();
        row.set_logits(&[0.0, 0.0, f32::NEG_INFINITY], 0);
        let score = row.compare(&[0.0, 0.0, f32::NEG_INFINITY], 0);
        assert!(score.kl.abs() < 1e-6 && score.top == 0);
        assert!(!row.compare(&[0.0, f32::NAN, 0.0], 0).nll.is_finite());
        assert!(!row.compare(&[0.0, 0.0, 0.0], 3).nll.is_finite());
        row.set_logits(&[0.0, f32::NAN, 0.0], 0);
        assert!(!row.score().nll.is_finite());
    }

    #[test]
    fn the_first_of_equal_tokens_is_the_likeliest() {
        let mut row = BaseRow::default();
        row.set_logits(&[1.0, 2.0, 2.0], 0);
        assert_eq!((row.score().top, row.compare(&[3.0, 0.0, 3.0], 0).top), (1, 0));
    }
}
