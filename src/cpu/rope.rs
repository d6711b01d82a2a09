//! Rotary position embedding of rows of heads.

use super::rows::{for_rows, keep_rows};
use crate::kernels::Pool;
use crate::network::{RopeSpec, RopeStyle};

/// Cosines and sines of a batch's positions, computed once for all layers with the same frequencies.
pub(super) struct RopeTables {
    positions: Vec<usize>,
    /// Context length of each row's sequence.
    contexts: Vec<usize>,
    tables: Vec<(RopeSpec, Vec<(f32, f32)>)>,
}

impl RopeTables {
    /// Tables for rows at these positions, in sequences with these context lengths.
    pub(super) fn new(positions: Vec<usize>, contexts: Vec<usize>) -> Self {
        debug_assert_eq!(positions.len(), contexts.len());
        Self { positions, contexts, tables: Vec::new() }
    }

    /// Position of each row.
    pub(super) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Drops all rows but these (ascending).
    pub(super) fn keep(&mut self, rows: &[u32]) {
        keep_rows(&mut self.positions, 1, rows);
        keep_rows(&mut self.contexts, 1, rows);
        for (spec, table) in &mut self.tables {
            keep_rows(table, spec.frequencies.len(), rows);
        }
    }

    /// Rotates `x`, `[rows, heads, dim]`.
    pub(super) fn apply(&mut self, pool: &Pool, spec: &RopeSpec, heads: usize, x: &mut [f32]) {
        let found = self.tables.iter().position(|(key, _)| key == spec);
        let index = found.unwrap_or_else(|| {
            self.tables.push((spec.clone(), table(spec, &self.positions, &self.contexts)));
            self.tables.len() - 1
        });
        let (pairs, table) = (spec.frequencies.len(), &self.tables[index].1);
        let cols = x.len() / self.positions.len();
        for_rows(pool, x, cols, |row, values| {
            let angles = &table[row * pairs..(row + 1) * pairs];
            for head in values.chunks_exact_mut(cols / heads) {
                rotate(spec.style, angles, head);
            }
        });
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "angles are f32, their functions exact to it"
)]
fn table(spec: &RopeSpec, positions: &[usize], contexts: &[usize]) -> Vec<(f32, f32)> {
    let rows = positions.iter().zip(contexts);
    let pairs = rows.flat_map(|(&at, &context)| spec.frequencies_within(context).iter().map(move |f| at as f32 * f));
    pairs
        .map(|angle| {
            let (sin, cos) = f64::from(angle).sin_cos();
            (cos as f32 * spec.magnitude, sin as f32 * spec.magnitude)
        })
        .collect()
}

fn rotate(style: RopeStyle, angles: &[(f32, f32)], head: &mut [f32]) {
    match style {
        RopeStyle::Pairs => {
            for (pair, &(cos, sin)) in head.chunks_exact_mut(2).zip(angles) {
                (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
            }
        }
        RopeStyle::Halves => {
            let (first, rest) = head.split_at_mut(angles.len());
            for ((a, b), &(cos, sin)) in first.iter_mut().zip(rest).zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::frequencies;

    #[test]
    fn pairs_turn_by_their_angle() {
        let pool = Pool::new(1);
        let spec = |style| RopeSpec::new(style, &frequencies(100.0, 4), 2.0);
        let mut x = [1.0, 0.0, 0.0, 1.0, 7.0];
        RopeTables::new(vec![3], vec![8]).apply(&pool, &spec(RopeStyle::Pairs), 1, &mut x);
        let (a, b) = (3.0f32, 0.3f32);
        let expected = [2.0 * a.cos(), 2.0 * a.sin(), -2.0 * b.sin(), 2.0 * b.cos(), 7.0];
        assert!(x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6), "{x:?}");
        let mut x = [1.0, 0.0, 0.0, 1.0, 7.0];
        RopeTables::new(vec![3], vec![8]).apply(&pool, &spec(RopeStyle::Halves), 1, &mut x);
        let expected = [2.0 * a.cos(), -2.0 * b.sin(), 2.0 * a.sin(), 2.0 * b.cos(), 7.0];
        assert!(x.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6), "{x:?}");
    }

    #[test]
    fn sequences_with_long_contexts_have_other_frequencies() {
        let first = RopeSpec::new(RopeStyle::Pairs, &[0.5], 1.0);
        let other = RopeSpec::new(RopeStyle::Pairs, &[0.25], 1.0);
        let both = first.clone().with_long(4, &[0.25]);
        let (all, row) = (table(&both, &[3, 3, 9], &[4, 5, 5]), |spec, at| table(spec, &[at], &[0]));
        assert_eq!(all, [row(&first, 3), row(&other, 3), row(&other, 9)].concat());
    }
}
