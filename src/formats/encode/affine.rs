//! Q2_K, Q4_K and Q5_K: the search for a scale and a min, for sixteen sub-blocks at a time.

use super::super_blocks::{put_affine, side_by_side};
use crate::formats::{Affine, SUB_BLOCKS, SUPER_BLOCK, Search};
use crate::simd::LANES;
use crate::simd::lanes::{Lanes, ROUND};

/// Adding [`ROUND`] rounds magnitudes below this correctly.
const EXACT: f32 = 4_194_304.0;
/// Most elements of a group.
const MAX_GROUP: usize = LANES * 32;

/// Encodes super-blocks, whose sub-blocks have `N` elements.
#[inline(always)]
pub(in crate::formats) fn encode<L: Lanes, F: Affine<N>, const N: usize>(l: L, x: &[f32], out: &mut [u8]) {
    let group = LANES * N;
    let mut padded = [0.0; MAX_GROUP];
    for (x, out) in x.chunks(group).zip(out.chunks_mut(F::TY.row_bytes(group))) {
        // The last group may be short: the remaining lanes are zeros, whose results are not used.
        let lanes = if x.len() < group {
            padded[..x.len()].copy_from_slice(x);
            &padded[..group]
        } else {
            x
        };
        let found = search::<L, F, N>(l, &side_by_side(l, lanes));
        let (scales, mins) = (l.to_array(found.scale), l.to_array(found.min));
        let blocks = x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(F::TY.block_bytes()));
        for (i, (x, block)) in blocks.enumerate() {
            let (first, count) = (i * SUPER_BLOCK / N, SUPER_BLOCK / N);
            if found.needs_scalar >> first & (u16::MAX >> (LANES - count)) != 0 {
                F::encode_block(x, None, block);
                continue;
            }
            let (mut s, mut m) = ([0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS]);
            s[..count].copy_from_slice(&scales[first..][..count]);
            m[..count].copy_from_slice(&mins[first..][..count]);
            put_affine::<L, F, N>(l, x, (&s, &m), block);
        }
    }
}

/// What the search found in each lane.
pub(super) struct SearchResult<L: Lanes> {
    pub(super) scale: L::Float,
    /// Negated.
    pub(super) min: L::Float,
    /// The sum of weights.
    pub(super) sum: L::Float,
    /// The codes of the search are `nearest(inverse * (x - start))` within bounds.
    pub(super) inverse: L::Float,
    pub(super) start: L::Float,
    /// Lanes that are searched. In the others all elements are the same non-positive number, and codes are zero.
    pub(super) varied: u16,
    /// Lanes whose block the scalar encoder has to write.
    pub(super) needs_scalar: u16,
}

#[inline(always)]
fn search<L: Lanes, F: Affine<N>, const N: usize>(l: L, x: &[L::Float; N]) -> SearchResult<L> {
    let mut typical = l.splat(0.0);
    if F::TYPICAL {
        let mut squares = l.splat(0.0);
        for &v in x {
            squares = l.add(squares, l.mul(v, v));
        }
        typical = l.sqrt(l.div(squares, l.splat(N as f32)));
    }
    let mut weights = [typical; N];
    for i in 0..N {
        let magnitude = l.abs(x[i]);
        weights[i] = if F::TYPICAL { l.add(typical, magnitude) } else { magnitude };
    }
    scale_and_min(l, &Weighted { x, weights }, &F::SEARCH)
}

/// The code of an element of each lane: `nearest(inverse * (x - min))` within bounds.
#[inline(always)]
pub(super) fn code<L: Lanes>(l: L, inverse: L::Float, x: L::Float, min: L::Float, top: L::Float) -> L::Float {
    let round = l.splat(ROUND);
    let rounded = l.add(l.mul(inverse, l.sub(x, min)), round);
    l.sub(l.min(l.max(rounded, round), top), round)
}

/// Lanes in which `inverse * (x - min)` is small enough to be rounded correctly for all elements between `lowest` and `max`.
#[inline(always)]
fn within<L: Lanes>(l: L, inverse: L::Float, (lowest, min, max): (L::Float, L::Float, L::Float)) -> L::Mask {
    let reach = l.max(l.abs(l.sub(max, min)), l.abs(l.sub(lowest, min)));
    l.lt(l.mul(l.abs(inverse), reach), l.splat(EXACT))
}

/// Elements of each lane and their weights.
pub(super) struct Weighted<'a, L: Lanes, const N: usize> {
    pub(super) x: &'a [L::Float; N],
    pub(super) weights: [L::Float; N],
}

impl<L: Lanes, const N: usize> Weighted<'_, L, N> {
    /// `sum(weight * error(scale * code + min - x))`.
    #[inline(always)]
    fn error(&self, l: L, codes: &[L::Float; N], scale: L::Float, min: L::Float, absolute: bool) -> L::Float {
        let mut sum = l.splat(0.0);
        for i in 0..N {
            let difference = l.sub(l.add(l.mul(scale, codes[i]), min), self.x[i]);
            let error = if absolute { l.abs(difference) } else { l.mul(difference, difference) };
            sum = l.add(sum, l.mul(self.weights[i], error));
        }
        sum
    }
}

#[inline(always)]
pub(super) fn scale_and_min<L: Lanes, const N: usize>(
    l: L,
    elements: &Weighted<'_, L, N>,
    search: &Search,
) -> SearchResult<L> {
    let Weighted { x, weights } = elements;
    let zero = l.splat(0.0);
    let (mut lowest, mut max) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x = l.mul(sum_w, x[0]);
    for i in 1..N {
        lowest = l.min(x[i], lowest);
        max = l.max(x[i], max);
        sum_w = l.add(sum_w, weights[i]);
        sum_x = l.add(sum_x, l.mul(weights[i], x[i]));
    }
    let first_min = l.select(l.lt(zero, lowest), zero, lowest);
    let varied = l.lt(first_min, max);
    let top = search.top as f32;
    let rounded_top = l.splat(ROUND + top);
    let mut min = first_min;
    let inverse = l.div(l.splat(top), l.sub(max, min));
    let mut scale = l.div(l.splat(1.0), inverse);
    let (mut best_inverse, mut start) = (inverse, min);
    let mut usual = within(l, inverse, (lowest, min, max));
    let mut codes = [zero; N];
    for i in 0..N {
        codes[i] = code(l, inverse, x[i], min, rounded_top);
    }
    let mut best = elements.error(l, &codes, scale, min, search.absolute);
    for trial in 0..=search.trials {
        let inverse = l.div(l.splat(search.first + search.step * trial as f32 + top), l.sub(max, min));
        usual = l.both(usual, within(l, inverse, (lowest, min, max)));
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..N {
            let code = code(l, inverse, x[i], min, rounded_top);
            codes[i] = code;
            let weighted = l.mul(weights[i], code);
            sum_l = l.add(sum_l, weighted);
            sum_l2 = l.add(sum_l2, l.mul(weighted, code));
            sum_xl = l.add(sum_xl, l.mul(weighted, x[i]));
        }
        let determinant = l.sub(l.mul(sum_w, sum_l2), l.mul(sum_l, sum_l));
        let this_min = l.div(l.sub(l.mul(sum_l2, sum_x), l.mul(sum_l, sum_xl)), determinant);
        let this_scale = l.div(l.sub(l.mul(sum_w, sum_xl), l.mul(sum_x, sum_l)), determinant);
        let above = l.lt(zero, this_min);
        let this_scale = l.select(above, l.div(sum_xl, sum_l2), this_scale);
        let this_min = l.select(above, zero, this_min);
        let error = elements.error(l, &codes, this_scale, this_min, search.absolute);
        let better = l.both(l.lt(zero, determinant), l.lt(error, best));
        best = l.select(better, error, best);
        best_inverse = l.select(better, inverse, best_inverse);
        start = l.select(better, min, start);
        scale = l.select(better, this_scale, scale);
        min = l.select(better, this_min, min);
    }
    // Where all elements are one non-positive number, the reference does not search.
    let min = l.select(varied, min, first_min);
    SearchResult {
        scale: l.select(varied, scale, zero),
        min: l.mul(min, l.splat(-1.0)),
        sum: sum_w,
        inverse: best_inverse,
        start,
        varied: l.mask_bits(varied),
        needs_scalar: l.mask_bits(varied) & !l.mask_bits(usual),
    }
}
