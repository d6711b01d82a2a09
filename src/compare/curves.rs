//! What reports draw: divergence along a chunk, how changes of probabilities are spread, and which sizes are worth it.

#![allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

use super::Score;

/// Bars of [`histogram`].
pub const HISTOGRAM_BINS: usize = 41;

/// A mean over some positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The mean position in the chunk.
    pub position: f64,
    /// The mean.
    pub value: f64,
}

/// The mean divergence by position in the chunk (`per_chunk` positions are scored, from `first` on), in at most `bins` groups of
/// neighbouring positions.
#[must_use]
pub fn kl_by_position(scores: &[Score], first: usize, per_chunk: usize, bins: usize) -> Vec<Bin> {
    let width = per_chunk.div_ceil(bins.max(1)).max(1);
    let groups = (0..per_chunk).step_by(width);
    groups
        .filter_map(|start| {
            let end = (start + width).min(per_chunk);
            let values = scores.chunks(per_chunk).flat_map(|chunk| chunk.get(start..end).unwrap_or_default());
            let (sum, count) = values.fold((0.0, 0usize), |(sum, count), score| (sum + f64::from(score.kl), count + 1));
            let position = first as f64 + (start + end - 1) as f64 / 2.0;
            (count > 0).then(|| Bin { position, value: sum / count as f64 })
        })
        .collect()
}

/// The share of positions by the change of the true token's probability, from -1 to 1 in bins of equal width; the middle bin is
/// around zero.
#[must_use]
pub fn histogram(scores: &[Score]) -> [f64; HISTOGRAM_BINS] {
    let mut counts = [0usize; HISTOGRAM_BINS];
    for score in scores {
        let place = (f64::from(score.p_change) + 1.0) / 2.0 * HISTOGRAM_BINS as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (place as usize).min(HISTOGRAM_BINS - 1);
        counts[index] += 1;
    }
    counts.map(|count| count as f64 / scores.len().max(1) as f64)
}

/// Which models are on the Pareto front of size and loss: no other is at most as large with a smaller loss, or smaller with at
/// most the same loss.
#[must_use]
pub fn efficient(models: &[(u64, f64)]) -> Vec<bool> {
    let better = |a: &(u64, f64), b: &(u64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    models.iter().map(|model| !models.iter().any(|other| better(other, model))).collect()
}

#[cfg(test)]
mod tests {
    use super::{HISTOGRAM_BINS, efficient, histogram, kl_by_position};
    use crate::compare::Score;

    fn score(kl: f32, p_change: f32) -> Score {
        Score { kl, p_change, ..Score::default() }
    }

    #[test]
    fn divergence_is_averaged_over_chunks_and_neighbours() {
        let scores: Vec<Score> = [1.0, 2.0, 3.0, 5.0, 6.0, 7.0].map(|kl| score(kl, 0.0)).into();
        let bins = kl_by_position(&scores, 4, 3, 2);
        let found: Vec<(f64, f64)> = bins.iter().map(|bin| (bin.position, bin.value)).collect();
        assert_eq!(found, [(4.5, 3.5), (6.0, 5.0)]);
        assert_eq!(kl_by_position(&scores, 4, 3, 100).len(), 3);
    }

    #[test]
    fn changes_fall_into_bars() {
        let bars = histogram(&[score(0.0, 0.0), score(0.0, -1.0), score(0.0, 1.0), score(0.0, 0.01)]);
        assert_eq!((bars[0], bars[HISTOGRAM_BINS / 2], bars[HISTOGRAM_BINS - 1]), (0.25, 0.5, 0.25));
        assert!((bars.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_front_has_what_nothing_beats() {
        let found = efficient(&[(10, 0.1), (8, 0.2), (9, 0.3), (8, 0.2), (7, 0.9), (10, 0.05)]);
        assert_eq!(found, [false, true, false, true, true, true]);
    }
}
