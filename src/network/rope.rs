//! Rotary position embedding.
//!
//! Every kind of scaling (linear, YaRN, llama3, longrope) is expressed as one frequency for each pair of elements and one
//! factor of the results.

use std::f64::consts::TAU;
use std::sync::Arc;

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
    /// A context length and the frequencies of sequences with a longer context.
    pub long: Option<(usize, Arc<[f32]>)>,
    /// Factor of the rotated elements.
    pub magnitude: f32,
}

/// The settings of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// The factor by which the context is extended.
    pub factor: f64,
    /// Positions the model was first trained on.
    pub original_context_length: usize,
    /// Pairs with at least this many rotations over the original context keep their frequency.
    pub beta_fast: f64,
    /// The frequency of pairs with at most this many rotations is divided by the factor.
    pub beta_slow: f64,
    /// How the range of pairs between the two is rounded.
    pub edges: YarnEdges,
}

/// How the edges of YaRN's interpolation range are rounded.
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
    /// Interpolates the frequencies of `base`: from unchanged at `beta_fast` to divided by `factor` at `beta_slow`.
    #[allow(clippy::cast_precision_loss, reason = "dimensions and positions are far below 2^52")]
    pub fn interpolate(&self, frequencies: &mut [f64], base: f64) {
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

    /// YaRN's factor of the results.
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

    /// The same embedding with other frequencies for sequences whose context is longer than `context` positions. The context of a
    /// sequence is fixed, so that its results do not depend on how it is split.
    ///
    /// # Panics
    /// When there are not as many of them.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "angles are computed in f32, as everywhere in the field")]
    pub fn with_long(self, context: usize, frequencies: &[f64]) -> Self {
        assert_eq!(self.frequencies.len(), frequencies.len());
        Self { long: Some((context, frequencies.iter().map(|&f| f as f32).collect())), ..self }
    }

    /// The frequencies of a sequence with a context of `context_length` positions.
    #[must_use]
    pub fn frequencies_within(&self, context_length: usize) -> &[f32] {
        self.long.as_ref().filter(|(most, _)| context_length > *most).map_or(&self.frequencies, |(_, long)| long)
    }
}

/// Growth of the queries with their position: `1 + beta ln(1 + floor((position + offset) / length))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LengthScale {
    /// Slope.
    pub beta: f32,
    /// Positions of a step.
    pub length: usize,
    /// Positions by which steps come early.
    pub offset: usize,
}

impl LengthScale {
    /// The factor at `position`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "positions are far below 2^24 steps")]
    pub fn factor(&self, position: usize) -> f32 {
        1.0 + self.beta * (1.0 + ((position + self.offset) / self.length) as f32).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_grow_in_steps() {
        let mistral = LengthScale { beta: 0.1, length: 64, offset: 0 };
        let llama = LengthScale { beta: 0.1, length: 64, offset: 1 };
        let step = |n: f32| 1.0 + 0.1 * n.ln();
        let at = |scale: LengthScale, positions: [usize; 4]| positions.map(|position| scale.factor(position));
        assert_eq!(at(mistral, [0, 63, 64, 128]), [1.0, 1.0, step(2.0), step(3.0)]);
        assert_eq!(at(llama, [62, 63, 126, 127]), [1.0, step(2.0), step(2.0), step(3.0)]);
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
        let mut interpolated = own.clone();
        yarn.interpolate(&mut interpolated, 10_000.0);
        assert_eq!(interpolated[0], own[0]);
        assert_eq!(interpolated[63], own[63] / 4.0);
        assert!(own.iter().zip(&interpolated).all(|(o, s)| s <= o && *s >= o / 4.0));
    }
}
