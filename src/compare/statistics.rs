//! Figures of a whole text, from those of its positions: means with standard errors, and quantiles.

#![allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

use super::{BaseScore, Score};

/// With at most this many positions there is no standard error.
const FEW: usize = 10;

/// A figure and its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its standard error; zero if there are too few positions.
    pub error: f64,
}

impl Estimate {
    /// The mean of values with this sum and this sum of squares.
    fn mean(sum: f64, squares: f64, count: usize) -> Self {
        let n = count.max(1) as f64;
        let mean = sum / n;
        let variance = squares / n - mean * mean;
        let error = if variance > 0.0 && count > FEW { (variance / (n - 1.0)).sqrt() } else { 0.0 };
        Self { value: mean, error }
    }

    /// `e` to the power of it.
    fn exp(self) -> Self {
        let value = self.value.exp();
        Self { value, error: value * self.error }
    }
}

/// Quantiles with linear interpolation, from the least to the greatest value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantiles {
    sorted: Vec<f32>,
}

impl Quantiles {
    fn new(values: impl Iterator<Item = f32>) -> Self {
        let mut sorted: Vec<f32> = values.collect();
        sorted.sort_by(f32::total_cmp);
        Self { sorted }
    }

    /// The value that this share of all, from 0 to 1, does not exceed.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    pub fn at(&self, share: f64) -> f64 {
        let Some(last) = self.sorted.len().checked_sub(1) else { return 0.0 };
        let place = share.clamp(0.0, 1.0) * last as f64;
        let (index, part) = (place as usize, place.fract());
        let value = |i: usize| f64::from(self.sorted[i.min(last)]);
        (1.0 - part) * value(index) + part * value(index + 1)
    }
}

/// The figures of a model relative to the base, over a whole text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Positions that count.
    pub positions: usize,
    /// Perplexity of the model.
    pub perplexity: Estimate,
    /// Perplexity of the base.
    pub base_perplexity: Estimate,
    /// Correlation of the log-likelihoods of model and base, -1 to 1.
    pub correlation: f64,
    /// Logarithm of the ratio of the perplexities. Since both are of the same text, its error is smaller than that of either.
    pub ln_ratio: Estimate,
    /// Ratio of the perplexities.
    pub ratio: Estimate,
    /// Difference of the perplexities.
    pub difference: Estimate,
    /// Mean of the divergence, in nats.
    pub kl: Estimate,
    /// Quantiles of the divergence.
    pub kl_quantiles: Quantiles,
    /// Mean of the change of the true token's probability.
    pub p_change: Estimate,
    /// Quantiles of that change.
    pub p_quantiles: Quantiles,
    /// Root of the mean square of that change.
    pub p_rms: Estimate,
    /// Share of the positions at which model and base have the same likeliest token.
    pub same_top: Estimate,
}

/// Sums over positions.
#[derive(Default)]
struct Sums {
    nll: f64,
    nll_squares: f64,
    base: f64,
    base_squares: f64,
    products: f64,
    kl: f64,
    kl_squares: f64,
    p: f64,
    p_squares: f64,
    p_fourth: f64,
    same_top: usize,
}

impl Sums {
    fn add(&mut self, base: &BaseScore, score: &Score) {
        self.nll += f64::from(score.nll);
        self.nll_squares += f64::from(score.nll * score.nll);
        self.base += f64::from(base.nll);
        self.base_squares += f64::from(base.nll * base.nll);
        self.products += f64::from(score.nll * base.nll);
        let kl = f64::from(score.kl);
        self.kl += kl;
        self.kl_squares += kl * kl;
        let p_squared = f64::from(score.p_change * score.p_change);
        self.p += f64::from(score.p_change);
        self.p_squares += p_squared;
        self.p_fourth += p_squared * p_squared;
        self.same_top += usize::from(score.top == base.top);
    }
}

impl Statistics {
    /// The figures over all positions; `base` and `scores` have the same positions.
    #[must_use]
    pub fn new(base: &[BaseScore], scores: &[Score]) -> Self {
        let count = scores.len();
        let n = count.max(1) as f64;
        let mut sums = Sums::default();
        base.iter().zip(scores).for_each(|(base, score)| sums.add(base, score));
        let ln_perplexity = Estimate::mean(sums.nll, sums.nll_squares, count);
        let ln_base = Estimate::mean(sums.base, sums.base_squares, count);
        let covariance =
            if count < FEW { 0.0 } else { (sums.products / n - ln_perplexity.value * ln_base.value) / (n - 1.0) };
        // Rounding may give a negative variance.
        let error_of_difference = |a: f64, b: f64, covariance: f64| (a * a + b * b - 2.0 * covariance).max(0.0).sqrt();
        let ln_ratio = Estimate {
            value: ln_perplexity.value - ln_base.value,
            error: error_of_difference(ln_perplexity.error, ln_base.error, covariance),
        };
        let (perplexity, base_perplexity) = (ln_perplexity.exp(), ln_base.exp());
        let of_perplexities = perplexity.value * base_perplexity.value * covariance;
        let squares = Estimate::mean(sums.p_squares, sums.p_fourth, count);
        let rms = squares.value.sqrt();
        let same = sums.same_top as f64 / n;
        let errors = ln_perplexity.error * ln_base.error;
        Self {
            positions: count,
            perplexity,
            base_perplexity,
            correlation: if errors > 0.0 { covariance / errors } else { 0.0 },
            ln_ratio,
            ratio: ln_ratio.exp(),
            difference: Estimate {
                value: perplexity.value - base_perplexity.value,
                error: error_of_difference(perplexity.error, base_perplexity.error, of_perplexities),
            },
            kl: Estimate::mean(sums.kl, sums.kl_squares, count),
            kl_quantiles: Quantiles::new(scores.iter().map(|score| score.kl)),
            p_change: Estimate::mean(sums.p, sums.p_squares, count),
            p_quantiles: Quantiles::new(scores.iter().map(|score| score.p_change)),
            p_rms: Estimate { value: rms, error: if rms > 0.0 { 0.5 / rms * squares.error } else { 0.0 } },
            same_top: Estimate { value: same, error: (same * (1.0 - same) / (n - 1.0).max(1.0)).sqrt() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantiles, Statistics};
    use crate::compare::{BaseScore, Score};

    #[test]
    fn quantiles_lie_between_values() {
        let quantiles = Quantiles::new([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!([0.0, 0.5, 1.0, 0.25].map(|share| quantiles.at(share)), [1.0, 2.5, 4.0, 1.75]);
        assert_eq!(Quantiles::new([].into_iter()).at(0.5), 0.0);
    }

    #[test]
    fn the_error_of_a_ratio_knows_what_both_share() {
        // A model that is always worse by the same amount: its perplexity is uncertain, the ratio is not.
        let base: Vec<BaseScore> = (0..200u8).map(|i| BaseScore { nll: f32::from(i % 7), top: 1 }).collect();
        let scores: Vec<Score> = base
            .iter()
            .enumerate()
            .map(|(i, b)| Score { nll: b.nll + 0.5, kl: 0.5, p_change: -0.25, top: u32::from(i % 4 != 0) })
            .collect();
        let statistics = Statistics::new(&base, &scores);
        assert!((statistics.ln_ratio.value - 0.5).abs() < 1e-9 && statistics.ln_ratio.error < 1e-6);
        assert!((statistics.ratio.value - 0.5f64.exp()).abs() < 1e-9);
        assert!(statistics.perplexity.error > 1.0 && (statistics.correlation - 1.0).abs() < 1e-9);
        assert_eq!((statistics.kl.value, statistics.kl.error), (0.5, 0.0));
        assert_eq!((statistics.p_rms.value, statistics.p_change.value), (0.25, -0.25));
        assert_eq!(statistics.same_top.value, 0.75);
        assert!((statistics.same_top.error - (0.75 * 0.25 / 199.0f64).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_same_model_has_no_loss() {
        let base = [BaseScore { nll: 1.0, top: 3 }; 20];
        let scores = [Score { nll: 1.0, kl: 0.0, p_change: 0.0, top: 3 }; 20];
        let statistics = Statistics::new(&base, &scores);
        assert_eq!((statistics.ratio.value, statistics.kl.value, statistics.p_rms.value), (1.0, 0.0, 0.0));
        assert_eq!((statistics.same_top.value, statistics.p_rms.error), (1.0, 0.0));
    }
}
