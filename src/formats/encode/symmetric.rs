//! Q6_K: the search for a scale, of the sixteen sub-blocks of a super-block at a time.

use super::super_blocks::{greatest, put_symmetric, side_by_side};
use crate::formats::{SUPER_BLOCK, Symmetric, TINY};
use crate::simd::LANES;
use crate::simd::lanes::{Lanes, ROUND};

/// Encodes super-blocks.
#[inline(always)]
pub(in crate::formats) fn encode<L: Lanes, F: Symmetric>(l: L, x: &[f32], out: &mut [u8]) {
    for (x, block) in x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(F::TY.block_bytes())) {
        let scale = scale(l, &side_by_side(l, x), F::HALF as f32);
        put_symmetric::<L, F>(l, x, &l.to_array(scale), block);
    }
}

/// Sixteen elements of each lane, their squares, and the squares times the elements.
struct SubBlocks<L: Lanes> {
    x: [L::Float; LANES],
    squares: [L::Float; LANES],
    cubes: [L::Float; LANES],
}

impl<L: Lanes> SubBlocks<L> {
    /// `sum(x^2 * x * code)` and `sum(x^2 * code * code)` of the codes `nearest(inverse * x)` within bounds.
    ///
    /// Magnitudes are at least `TINY` where it matters, so that codes before rounding are about `half` at most.
    #[inline(always)]
    fn sums(&self, l: L, inverse: L::Float, half: f32) -> (L::Float, L::Float) {
        let (low, high) = (l.splat(ROUND - half), l.splat(ROUND + half - 1.0));
        let round = l.splat(ROUND);
        let (mut sum_lx, mut sum_l2) = (l.splat(0.0), l.splat(0.0));
        for i in 0..LANES {
            let rounded = l.add(l.mul(inverse, self.x[i]), round);
            let code = l.sub(l.min(l.max(rounded, low), high), round);
            sum_lx = l.add(sum_lx, l.mul(self.cubes[i], code));
            sum_l2 = l.add(sum_l2, l.mul(l.mul(self.squares[i], code), code));
        }
        (sum_lx, sum_l2)
    }
}

#[inline(always)]
fn scale<L: Lanes>(l: L, x: &[L::Float; LANES], half: f32) -> L::Float {
    let zero = l.splat(0.0);
    let (magnitude, max) = greatest(l, x);
    let mut blocks = SubBlocks::<L> { x: *x, squares: *x, cubes: *x };
    for i in 0..LANES {
        blocks.squares[i] = l.mul(x[i], x[i]);
        blocks.cubes[i] = l.mul(blocks.squares[i], x[i]);
    }
    let (sum_lx, sum_l2) = blocks.sums(l, l.div(l.splat(-half), max), half);
    // A sum of squares is zero below the least number above.
    let mut scale = l.select(l.lt(sum_l2, l.splat(f32::from_bits(1))), zero, l.div(sum_lx, sum_l2));
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
    }
    l.select(l.lt(magnitude, l.splat(TINY)), zero, scale)
}
