//! Q6_K: the search for a scale, for the sixteen sub-blocks of a super-block at a time.

use super::super_blocks::{greatest, put_symmetric, side_by_side};
use crate::formats::{SUPER_BLOCK, Symmetric, TINY};
use crate::simd::LANES;
use crate::simd::lanes::{Lanes, ROUND};

/// Encodes super-blocks.
#[inline(always)]
pub(in crate::formats) fn encode<L: Lanes, F: Symmetric>(l: L, x: &[f32], out: &mut [u8]) {
    for (x, block) in x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(F::TY.block_bytes())) {
        let x_lanes = side_by_side::<L, LANES>(l, x);
        let mut squares = x_lanes;
        for (square, v) in squares.iter_mut().zip(x_lanes) {
            *square = l.mul(v, v);
        }
        let (scale, _) = scale(l, &x_lanes, &squares, F::HALF as f32);
        put_symmetric::<L, F>(l, x, &l.to_array(scale), block);
    }
}

/// Elements of each lane, their weights, and the weights times the elements.
struct SubBlocks<'a, L: Lanes, const N: usize> {
    x: &'a [L::Float; N],
    weights: &'a [L::Float; N],
    products: [L::Float; N],
}

impl<L: Lanes, const N: usize> SubBlocks<'_, L, N> {
    /// `sum(weight * x * code)` and `sum(weight * code * code)` of the codes `nearest(inverse * x)` within bounds.
    ///
    /// Lanes whose results are used have magnitudes of at least `TINY`, so that codes before rounding are about `half` at most.
    #[inline(always)]
    fn sums(&self, l: L, inverse: L::Float, half: f32) -> (L::Float, L::Float) {
        let (low, high) = (l.splat(ROUND - half), l.splat(ROUND + half - 1.0));
        let round = l.splat(ROUND);
        let (mut sum_lx, mut sum_l2) = (l.splat(0.0), l.splat(0.0));
        for i in 0..N {
            let rounded = l.add(l.mul(inverse, self.x[i]), round);
            let code = l.sub(l.min(l.max(rounded, low), high), round);
            sum_lx = l.add(sum_lx, l.mul(self.products[i], code));
            sum_l2 = l.add(sum_l2, l.mul(l.mul(self.weights[i], code), code));
        }
        (sum_lx, sum_l2)
    }
}

/// The scale that fits best by weighted error, and the inverse from which the search computed its codes (meaningless where the
/// scale is zero).
#[inline(always)]
pub(super) fn scale<L: Lanes, const N: usize>(
    l: L,
    x: &[L::Float; N],
    weights: &[L::Float; N],
    half: f32,
) -> (L::Float, L::Float) {
    let zero = l.splat(0.0);
    let (magnitude, max) = greatest(l, x);
    let mut blocks = SubBlocks::<L, N> { x, weights, products: *x };
    for i in 0..N {
        blocks.products[i] = l.mul(weights[i], x[i]);
    }
    let mut best_inverse = l.div(l.splat(-half), max);
    let (sum_lx, sum_l2) = blocks.sums(l, best_inverse, half);
    let mut scale = l.select(l.lt(l.abs(sum_l2), l.splat(f32::from_bits(1))), zero, l.div(sum_lx, sum_l2));
    let mut best = l.mul(scale, sum_lx);
    for trial in -9..=9_i8 {
        if trial == 0 {
            continue;
        }
        let inverse = l.div(l.splat(-(half + 0.1 * f32::from(trial))), max);
        let (sum_lx, sum_l2) = blocks.sums(l, inverse, half);
        let better = l.both(l.lt(zero, sum_l2), l.lt(l.mul(best, sum_l2), l.mul(sum_lx, sum_lx)));
        scale = l.select(better, l.div(sum_lx, sum_l2), scale);
        best = l.select(better, l.mul(scale, sum_lx), best);
        best_inverse = l.select(better, inverse, best_inverse);
    }
    let tiny = l.lt(magnitude, l.splat(TINY));
    (l.select(tiny, zero, scale), best_inverse)
}
