//! Encoding with importance: weighted searches for sixteen sub-blocks at a time.

use super::affine::{self, Weighted};
use super::super_blocks::{put_affine_codes, put_symmetric_codes, side_by_side};
use super::symmetric;
use crate::formats::{
    Affine, BLOCK, SUB_BLOCKS, SUPER_BLOCK, Symmetric, Written, put_block, put_weighted_scales, sum_of_squares,
    weighted_affine, weighted_search, weighted_steps, weighted_symmetric,
};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Most elements of a group.
const MAX_GROUP: usize = LANES * 32;

/// Sixteen sub-blocks of `N` elements side by side; missing ones are zeros.
#[inline(always)]
pub(super) fn group<L: Lanes, const N: usize>(l: L, x: &[f32]) -> [L::Float; N] {
    if x.len() == LANES * N {
        return side_by_side(l, x);
    }
    let mut padded = [0.0; MAX_GROUP];
    padded[..x.len()].copy_from_slice(x);
    side_by_side(l, &padded[..LANES * N])
}

/// Weights from importance and scaled mean squares, which are one for each lane.
#[inline(always)]
pub(super) fn weights<L: Lanes, const N: usize>(
    l: L,
    x: &[L::Float; N],
    importance: &[L::Float; N],
    mean_squares: L::Float,
) -> [L::Float; N] {
    let mut weights = *importance;
    for i in 0..N {
        weights[i] = l.mul(importance[i], l.sqrt(l.add(mean_squares, l.mul(x[i], x[i]))));
    }
    weights
}

/// For each lane of a group, `spread` times the mean square of its super-block.
#[inline(always)]
fn mean_squares<L: Lanes, const N: usize>(l: L, x: &[f32], spread: f32) -> L::Float {
    let mut lanes = [0.0; LANES];
    for (x, lanes) in x.chunks_exact(SUPER_BLOCK).zip(lanes.chunks_exact_mut(SUPER_BLOCK / N)) {
        lanes.fill(spread * sum_of_squares(x) / SUPER_BLOCK as f32);
    }
    l.array(&lanes)
}

/// Q2_K, Q4_K and Q5_K.
#[inline(always)]
pub(in crate::formats) fn affine<L: Lanes, F: Affine<N>, const N: usize>(
    l: L,
    x: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let len = LANES * N;
    let (count, bytes) = (SUPER_BLOCK / N, F::TY.block_bytes());
    for ((x, importance), out) in x.chunks(len).zip(importance.chunks(len)).zip(out.chunks_mut(F::TY.row_bytes(len))) {
        let lanes = group::<L, N>(l, x);
        let weights = weights(l, &lanes, &group(l, importance), mean_squares::<L, N>(l, x, F::SPREAD));
        let found = affine::scale_and_min(l, &Weighted { x: &lanes, weights }, &weighted_search::<F, N>());
        let [scales, mins, sums] = [found.scale, found.min, found.sum].map(|lanes| l.to_array(lanes));
        let [inverses, starts] = [found.inverse, found.start].map(|lanes| l.to_array(lanes));
        for (i, (x, block)) in x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(bytes)).enumerate() {
            let first = i * count;
            if found.needs_scalar >> first & (u16::MAX >> (LANES - count)) != 0 {
                scalar(x, &importance[i * SUPER_BLOCK..][..SUPER_BLOCK], block, weighted_affine::<F, N>);
                continue;
            }
            let [scales, mins, sums] = [&scales, &mins, &sums].map(|lanes| {
                let mut own = [0.0; SUB_BLOCKS];
                own[..count].copy_from_slice(&lanes[first..][..count]);
                own
            });
            let grids = put_weighted_scales::<F, N>(&scales, &mins, &sums, block);
            let top = F::SEARCH.top;
            put_affine_codes::<L, F, N>(l, x, &grids, block, |j, x, codes| {
                if found.varied >> (first + j) & 1 == 0 {
                    codes.fill(0);
                } else {
                    affine_codes(l, x, (inverses[first + j], starts[first + j]), top, codes);
                }
            });
        }
    }
}

/// The codes of a search for a scale and a min.
#[inline(always)]
fn affine_codes<L: Lanes>(l: L, x: &[f32], (inverse, start): (f32, f32), top: i32, codes: &mut [u8]) {
    let (inverse, start) = (l.splat(inverse), l.splat(start));
    let top = l.splat(crate::simd::lanes::ROUND + top as f32);
    for (x, codes) in x.as_chunks().0.iter().zip(codes.as_chunks_mut().0) {
        l.put_bytes(affine::code(l, inverse, l.array(x), start, top), codes);
    }
}

/// Q3_K and Q6_K. In Q6_K the importance `ALONE` is the weight.
#[inline(always)]
pub(in crate::formats) fn symmetric<L: Lanes, F: Symmetric, const ALONE: bool>(
    l: L,
    x: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let blocks = x.chunks_exact(SUPER_BLOCK).zip(importance.chunks_exact(SUPER_BLOCK));
    for ((x, importance), block) in blocks.zip(out.chunks_exact_mut(F::TY.block_bytes())) {
        let lanes: [L::Float; LANES] = side_by_side(l, x);
        let mut weights_of = side_by_side(l, importance);
        if !ALONE {
            weights_of = weights(l, &lanes, &weights_of, mean_squares::<L, LANES>(l, x, 2.0));
        }
        let mut sums = l.splat(0.0);
        for weight in weights_of {
            sums = l.add(sums, weight);
        }
        let (scale, inverse) = symmetric::scale(l, &lanes, &weights_of, F::HALF as f32);
        let (scales, inverses) = (l.to_array(scale), l.to_array(inverse));
        let steps = F::put_weighted_scales(&scales, &l.to_array(sums), block);
        if steps.is_some_and(|steps| (0..SUB_BLOCKS).any(|j| steps[j] == 0.0 && scales[j] == 0.0)) {
            // The scalar encoder finds the codes of sub-blocks whose scale is zero.
            scalar(x, importance, block, weighted_symmetric::<F>);
            continue;
        }
        put_symmetric_codes::<L, F>(l, x, steps, block, |j, x, codes| {
            symmetric_codes(l, x, inverses[j], F::HALF as f32, codes);
        });
    }
}

/// The codes of a search for a scale.
#[inline(always)]
fn symmetric_codes<L: Lanes>(l: L, x: &[f32], inverse: f32, half: f32, codes: &mut [u8]) {
    let (low, high, inverse) = (l.splat(-half), l.splat(half - 1.0), l.splat(inverse));
    for (x, codes) in x.as_chunks().0.iter().zip(codes.as_chunks_mut().0) {
        let code = l.nearest(l.mul(inverse, l.array(x)));
        l.put_bytes(l.add(l.min(l.max(code, low), high), l.splat(half)), codes);
    }
}

/// Q4_0, or with `FIVE` bits Q5_0.
#[inline(always)]
pub(in crate::formats) fn symmetric_row<L: Lanes, F: Written, const FIVE: bool>(
    l: L,
    x: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let half = if FIVE { 16.0 } else { 8.0 };
    let mean_square = l.splat(sum_of_squares(x) / x.len() as f32);
    let len = LANES * BLOCK;
    for ((x, importance), out) in x.chunks(len).zip(importance.chunks(len)).zip(out.chunks_mut(F::TY.row_bytes(len))) {
        let lanes: [L::Float; BLOCK] = group(l, x);
        let weights = weights(l, &lanes, &group(l, importance), mean_square);
        let (scale, inverse) = symmetric::scale(l, &lanes, &weights, half);
        let (halves, scales, inverses) = (l.to_halves(scale), l.to_array(scale), l.to_array(inverse));
        for (b, (x, block)) in
            x.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(F::TY.block_bytes())).enumerate()
        {
            let mut codes = [0; BLOCK];
            // Blocks of tiny elements have codes of zero; other blocks whose scale is zero keep the codes of the search.
            if scales[b] != 0.0 || x.iter().any(|v| v.abs() >= crate::formats::TINY) {
                symmetric_codes(l, x, inverses[b], half, &mut codes);
            }
            put_block::<FIVE>(halves[b], None, &codes, block);
        }
    }
}

/// Q4_1, or with `FIVE` bits Q5_1.
#[inline(always)]
pub(in crate::formats) fn affine_row<L: Lanes, F: Written, const FIVE: bool>(
    l: L,
    x: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let top = if FIVE { 31 } else { 15 };
    let mean_square = sum_of_squares(x) / x.len() as f32;
    let len = LANES * BLOCK;
    let bytes = F::TY.block_bytes();
    for ((x, importance), out) in x.chunks(len).zip(importance.chunks(len)).zip(out.chunks_mut(F::TY.row_bytes(len))) {
        let lanes: [L::Float; BLOCK] = group(l, x);
        let weights = weights(l, &lanes, &group(l, importance), l.splat(mean_square));
        let found = affine::scale_and_min(l, &Weighted { x: &lanes, weights }, &weighted_steps(top));
        let halves = l.to_halves(found.scale);
        let mins = l.to_halves(l.mul(found.min, l.splat(-1.0)));
        let [inverses, starts] = [found.inverse, found.start].map(|lanes| l.to_array(lanes));
        for (b, (x, block)) in x.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(bytes)).enumerate() {
            if found.needs_scalar >> b & 1 != 0 {
                let importance = &importance[b * BLOCK..][..BLOCK];
                crate::formats::put_affine_block::<FIVE>(x, importance, mean_square, block);
                continue;
            }
            let mut codes = [0; BLOCK];
            if found.varied >> b & 1 != 0 {
                affine_codes(l, x, (inverses[b], starts[b]), top, &mut codes);
            }
            put_block::<FIVE>(halves[b], Some(mins[b]), &codes, block);
        }
    }
}

/// Encodes a super-block with the scalar encoder.
#[cold]
#[inline(never)]
fn scalar(x: &[f32], importance: &[f32], block: &mut [u8], encode: fn(&[f32], &[f32], &mut [u8])) {
    encode(x, importance, block);
}
