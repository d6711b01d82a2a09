//! The passages of the text at which a model is furthest from the base.

use std::ops::Range;

use super::Score;

/// Neighbouring positions of one chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// The chunk, from 0.
    pub chunk: usize,
    /// Numbers of the positions among all scored ones.
    pub positions: Range<usize>,
    /// Mean divergence, in nats.
    pub kl: f64,
}

/// The passages of at most `length` positions with the greatest mean divergence: `count` of them that do not overlap, the
/// worst first. A chunk has `per_chunk` scored positions.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn worst_passages(scores: &[Score], per_chunk: usize, length: usize, count: usize) -> Vec<Passage> {
    let mut windows = Vec::new();
    for (chunk, own) in scores.chunks(per_chunk.max(1)).enumerate() {
        let length = length.clamp(1, own.len());
        let start = chunk * per_chunk;
        let mut sum: f64 = own[..length].iter().map(|score| f64::from(score.kl)).sum();
        for at in 0..=own.len() - length {
            if at > 0 {
                sum += f64::from(own[at + length - 1].kl) - f64::from(own[at - 1].kl);
            }
            windows.push(Passage { chunk, positions: start + at..start + at + length, kl: sum / length as f64 });
        }
    }
    windows.sort_by(|a, b| b.kl.total_cmp(&a.kl));
    let mut found: Vec<Passage> = Vec::new();
    for window in windows {
        if found.len() == count {
            break;
        }
        let apart = |other: &Passage| {
            window.positions.end <= other.positions.start || other.positions.end <= window.positions.start
        };
        if found.iter().all(apart) {
            found.push(window);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::worst_passages;
    use crate::compare::Score;

    #[test]
    fn the_worst_are_found_and_do_not_overlap() {
        let kl = [0.0, 1.0, 9.0, 1.0, 0.0, 4.0, 4.0, 0.0, 0.0, 2.0];
        let scores: Vec<Score> = kl.map(|kl| Score { kl, ..Score::default() }).into();
        let found = worst_passages(&scores, 5, 2, 3);
        let places: Vec<_> =
            found.iter().map(|passage| (passage.chunk, passage.positions.clone(), passage.kl)).collect();
        assert_eq!(places[0], (0, 1..3, 5.0));
        assert_eq!(places[1], (1, 5..7, 4.0));
        assert_eq!(places.len(), 3);
        assert!(places[2].2 <= 1.0);
        assert_eq!(worst_passages(&scores, 5, 99, 9).len(), 2, "a passage is no longer than its chunk");
        assert!(worst_passages(&[], 5, 2, 3).is_empty());
    }
}
