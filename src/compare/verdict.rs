//! A verdict on the loss of a quantization.

use super::Statistics;

/// How much is lost. The thresholds are conventions; see [`Verdict::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nobody would notice.
    Invisible,
    /// It shows in measurements, seldom in answers.
    Small,
    /// Answers get worse; often still better than a smaller model.
    Clear,
    /// The model is not what it was.
    Broken,
}

/// Upper bounds of the mean divergence (nats) and of the logarithm of the perplexity ratio; beyond the last a model is broken.
const BOUNDS: [(Verdict, f64, f64); 3] =
    [(Verdict::Invisible, 0.01, 0.01), (Verdict::Small, 0.06, 0.05), (Verdict::Clear, 0.5, 0.4)];

/// Positions that a verdict needs; llama-perplexity prints no statistics of fewer.
const ENOUGH: usize = 100;

impl Verdict {
    /// The verdict on a model: invisible below a mean divergence of 0.01 nats, small below 0.06, clear below 0.5, broken from there
    /// on; and no better than the rise of its perplexity allows (1 %, 5 % and 49 %). `None` for fewer than 100 positions.
    #[must_use]
    pub fn of(statistics: &Statistics) -> Option<Self> {
        let fits =
            |&&(_, kl, ln_ratio): &&(Self, f64, f64)| statistics.kl.value < kl && statistics.ln_ratio.value < ln_ratio;
        let enough = statistics.positions >= ENOUGH;
        enough.then(|| BOUNDS.iter().find(fits).map_or(Self::Broken, |(verdict, ..)| *verdict))
    }

    /// The verdict on a mean divergence alone.
    pub(super) fn of_mean_kl(mean_kl: f64) -> Self {
        BOUNDS.iter().find(|(_, kl, _)| mean_kl < *kl).map_or(Self::Broken, |(verdict, ..)| *verdict)
    }

    /// One word for programs.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Invisible => "none",
            Self::Small => "small",
            Self::Clear => "clear",
            Self::Broken => "broken",
        }
    }

    /// In a few words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Invisible => "no visible loss",
            Self::Small => "small loss",
            Self::Clear => "clear loss",
            Self::Broken => "broken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;
    use crate::compare::{Estimate, Statistics};

    #[test]
    fn divergence_and_perplexity_decide() {
        let of = |positions, kl, ln_ratio| {
            let estimate = |value| Estimate { value, error: 0.0 };
            Verdict::of(&Statistics {
                positions,
                kl: estimate(kl),
                ln_ratio: estimate(ln_ratio),
                ..Statistics::default()
            })
        };
        assert_eq!(of(99, 0.0, 0.0), None);
        assert_eq!(of(100, 0.009, -0.5), Some(Verdict::Invisible));
        assert_eq!(of(100, 0.01, 0.0), Some(Verdict::Small));
        assert_eq!(of(100, 0.001, 0.02), Some(Verdict::Small));
        assert_eq!(of(100, 0.3, 0.0), Some(Verdict::Clear));
        assert_eq!(of(100, 0.5, 0.0), Some(Verdict::Broken));
        assert_eq!(of(100, 0.3, 3.0), Some(Verdict::Broken));
        assert_eq!(of(100, f64::NAN, 0.0), Some(Verdict::Broken));
    }
}
