//! Rotary position embedding.
//!
//! Every way of scaling it (linear, YaRN, llama3, longrope) comes down to one frequency for each pair of elements and
//! one factor of all results; so does what is kept here.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::rows::{for_rows, keep_rows};
use crate::kernels::Pool;

/// Which elements of a head make up a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours: `(0, 1), (2, 3) ...`
    Pairs,
    /// Halves: `(0, d/2), (1, d/2 + 1) ...`
    Halves,
}

/// A rotary embedding of the first `2 * frequencies` elements of a head.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Which elements make up a pair.
    pub style: RopeStyle,
    /// Radians a position, for each pair.
    pub frequencies: Arc<[f32]>,
    /// Other frequencies, of sequences whose context is longer than so many positions.
    pub long: Option<(usize, Arc<[f32]>)>,
    /// Factor of the rotated elements.
    pub magnitude: f32,
}

/// The settings of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Growth of the context.
    pub factor: f64,
    /// Positions the model was first trained on.
    pub original_context_length: usize,
    /// Turns over these positions from which a pair keeps its frequency.
    pub beta_fast: f64,
    /// Turns up to which a pair's frequency is divided by the factor.
    pub beta_slow: f64,
    /// Where the stretch between the two begins and ends.
    pub edges: YarnEdges,
}

/// Edges of the pairs that YaRN stretches in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum YarnEdges {
    /// At whole pairs.
    Whole,
    /// Between pairs too.
    Exact,
}

/// `base^(-2i/dims)` for each pair.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "dimensions are far below 2^52")]
pub fn frequencies(base: f64, dims: usize) -> Vec<f64> {
    (0..dims / 2).map(|i| base.powf(-2.0 * i as f64 / dims as f64)).collect()
}

impl Yarn {
    /// Brings the frequencies of `base` from their own to `1 / factor` of it, between the two betas.
    #[allow(clippy::cast_precision_loss, reason = "dimensions and positions are far below 2^52")]
    pub fn stretch(&self, frequencies: &mut [f64], base: f64) {
        let dims = 2.0 * frequencies.len() as f64;
        let pair = |turns: f64| dims * (self.original_context_length as f64 / (turns * TAU)).ln() / (2.0 * base.ln());
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = match self.edges {
            YarnEdges::Whole => (low.floor(), high.ceil()),
            YarnEdges::Exact => (low, high),
        };
        let (low, high) = (low.max(0.0), high.min(dims - 1.0));
        for (i, frequency) in frequencies.iter_mut().enumerate() {
            let own = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            *frequency = *frequency / self.factor * (1.0 - own) + *frequency * own;
        }
    }

    /// The factor of the results that goes with the stretch.
    #[must_use]
    pub fn magnitude(&self) -> f64 {
        1.0 + 0.1 * self.factor.ln()
    }
}

impl RopeSpec {
    /// An embedding of these frequencies.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "angles are computed in f32, as everywhere in the field")]
    pub fn new(style: RopeStyle, frequencies: &[f64], magnitude: f64) -> Self {
        let frequencies = frequencies.iter().map(|&f| f as f32).collect();
        Self { style, frequencies, long: None, magnitude: magnitude as f32 }
    }

    /// The same embedding, but of other frequencies in sequences whose context is longer than `context` positions. A
    /// sequence is of one kind from its first position to its last, so its numbers do not depend on how it is split.
    ///
    /// # Panics
    /// When there are not as many of them.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "angles are computed in f32, as everywhere in the field")]
    pub fn with_long(self, context: usize, frequencies: &[f64]) -> Self {
        assert_eq!(self.frequencies.len(), frequencies.len());
        Self { long: Some((context, frequencies.iter().map(|&f| f as f32).collect())), ..self }
    }

    /// The frequencies of a sequence with a context of so many positions.
    fn frequencies_within(&self, context_length: usize) -> &[f32] {
        self.long.as_ref().filter(|(most, _)| context_length > *most).map_or(&self.frequencies, |(_, long)| long)
    }
}

/// Growth of the queries with their position: `1 + beta ln(1 + floor(position / length))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthScale {
    /// Slope.
    pub beta: f32,
    /// Positions of a step.
    pub length: usize,
}

impl LengthScale {
    /// The factor at `position`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "positions are far below 2^24 steps")]
    pub fn factor(&self, position: usize) -> f32 {
        1.0 + self.beta * (1.0 + (position / self.length) as f32).ln()
    }
}

/// Cosines and sines of a batch's positions, made once for all layers that share an embedding.
pub(super) struct RopeTables {
    positions: Vec<usize>,
    /// Context length of each row's sequence.
    contexts: Vec<usize>,
    tables: Vec<(RopeSpec, Vec<(f32, f32)>)>,
}

impl RopeTables {
    /// Of rows at these positions, in sequences with contexts of these lengths.
    pub(super) fn new(positions: Vec<usize>, contexts: Vec<usize>) -> Self {
        debug_assert_eq!(positions.len(), contexts.len());
        Self { positions, contexts, tables: Vec::new() }
    }

    /// Position of each row.
    pub(super) fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Keeps these rows (ascending) alone.
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

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let yarn = Yarn {
            factor: 4.0,
            original_context_length: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            edges: YarnEdges::Whole,
        };
        let own = frequencies(10_000.0, 128);
        let mut stretched = own.clone();
        yarn.stretch(&mut stretched, 10_000.0);
        assert_eq!(stretched[0], own[0]);
        assert_eq!(stretched[63], own[63] / 4.0);
        assert!(own.iter().zip(&stretched).all(|(o, s)| s <= o && *s >= o / 4.0));
    }
}
