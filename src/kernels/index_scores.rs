//! Scores of an indexer (DeepSeek's sparse attention) for the positions of a tile.

use super::LANES;
use super::attention::{Numbers, TILE};
use crate::simd::lanes::{Kernel, Lanes};

/// Heads whose products with a key are computed together.
const HEADS: usize = 4;

/// For each position of a tile, `sum over heads of weight * max(0, query . key)`.
pub(crate) struct IndexScores<'a> {
    /// `[heads, dim]`.
    pub(crate) queries: &'a [f32],
    /// Of each head.
    pub(crate) weights: &'a [f32],
    /// A tile of a cache, `[4, k_dim, 16]`.
    pub(crate) keys: Numbers<'a>,
    pub(crate) k_dim: usize,
    /// Where the indexer's key begins among the `k_dim` elements.
    pub(crate) first: usize,
    pub(crate) out: &'a mut [f32; TILE],
}

impl Kernel for IndexScores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        match self.keys {
            Numbers::F32(keys) => self.scores(l, |at| l.array(&lanes(keys, at))),
            Numbers::F16(keys) => self.scores(l, |at| l.halves(&lanes(keys, at))),
        }
    }
}

/// The sixteen numbers from `at` on.
#[inline(always)]
fn lanes<T: Copy + Default>(numbers: &[T], at: usize) -> [T; LANES] {
    let mut lanes = [T::default(); LANES];
    lanes.copy_from_slice(&numbers[at..at + LANES]);
    lanes
}

impl IndexScores<'_> {
    #[inline(always)]
    fn scores<L: Lanes>(self, l: L, key: impl Fn(usize) -> L::Float) {
        let dim = self.queries.len() / self.weights.len();
        for (vector, out) in self.out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let first = vector * self.k_dim + self.first;
            let mut total = l.splat(0.0);
            for (queries, weights) in self.queries.chunks(HEADS * dim).zip(self.weights.chunks(HEADS)) {
                let mut products = [l.splat(0.0); HEADS];
                for d in 0..dim {
                    let key = key((first + d) * LANES);
                    for (product, query) in products.iter_mut().zip(queries.chunks_exact(dim)) {
                        *product = l.mul_add(l.splat(query[d]), key, *product);
                    }
                }
                for (product, weight) in products.into_iter().zip(weights) {
                    total = l.mul_add(l.max(product, l.splat(0.0)), l.splat(*weight), total);
                }
            }
            *out = l.to_array(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn scores_are_those_of_the_definition_on_every_instruction_set() {
        let (heads, dim, k_dim, first) = (6, 8, 20, 12);
        let number = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 16.0;
        let queries: Vec<f32> = (0..heads * dim).map(number).collect();
        let weights: Vec<f32> = (0..heads).map(|i| number(i + 7)).collect();
        let keys: Vec<f32> = (0..TILE * k_dim).map(|i| number(i + 3)).collect();
        let halves: Vec<u16> = keys.iter().map(|&key| f16::from_f32(key).to_bits()).collect();
        let expected: Vec<f64> = (0..TILE)
            .map(|position| {
                let key = |d: usize| f64::from(keys[(position / 16 * k_dim + first + d) * 16 + position % 16]);
                let product = |h: usize| (0..dim).map(|d| f64::from(queries[h * dim + d]) * key(d)).sum::<f64>();
                (0..heads).map(|h| f64::from(weights[h]) * product(h).max(0.0)).sum()
            })
            .collect();
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            for keys in [Numbers::F32(&keys), Numbers::F16(&halves)] {
                let mut out = [0.0; TILE];
                isa.run(IndexScores { queries: &queries, weights: &weights, keys, k_dim, first, out: &mut out });
                for (out, expected) in out.into_iter().zip(&expected) {
                    assert!((f64::from(out) - expected).abs() < 1e-3, "{out}, not {expected}");
                }
            }
        }
    }
}
