//! Code shared by the searches: moving sub-blocks to lanes, and computing codes from the scales as they were stored.

use crate::formats::{Affine, SUB_BLOCKS, SUPER_BLOCK, Symmetric, search_affine};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Vector `i` holds element `i` of sixteen consecutive sub-blocks of `N` elements.
#[inline(always)]
pub(super) fn side_by_side<L: Lanes, const N: usize>(l: L, x: &[f32]) -> [L::Float; N] {
    let chunks = &x.as_chunks::<LANES>().0[..N];
    let per_sub_block = N / LANES;
    let mut columns = [l.splat(0.0); N];
    for c in 0..per_sub_block {
        let mut rows = [l.splat(0.0); LANES];
        for lane in 0..LANES {
            rows[lane] = l.array(&chunks[lane * per_sub_block + c]);
        }
        columns[c * LANES..][..LANES].copy_from_slice(&l.transpose(rows));
    }
    columns
}

/// For each lane the element of greatest magnitude (the first of several), and that magnitude.
#[inline(always)]
pub(super) fn greatest<L: Lanes, const N: usize>(l: L, x: &[L::Float; N]) -> (L::Float, L::Float) {
    let (mut magnitude, mut max) = (l.splat(0.0), l.splat(0.0));
    for &v in x {
        let greater = l.lt(magnitude, l.abs(v));
        magnitude = l.select(greater, l.abs(v), magnitude);
        max = l.select(greater, v, max);
    }
    (magnitude, max)
}

/// Writes a super-block from the results of its search.
#[inline(always)]
pub(super) fn put_affine<L: Lanes, F: Affine<N>, const N: usize>(
    l: L,
    x: &[f32],
    (scales, mins): (&[f32; SUB_BLOCKS], &[f32; SUB_BLOCKS]),
    block: &mut [u8],
) {
    let grids = F::put_scales(scales, mins, block);
    put_affine_codes::<L, F, N>(l, x, &grids, block, |_, x, codes| searched_affine::<F, N>(x, codes));
}

/// Writes the codes of a super-block. For sub-block `j` with a step of zero, `searched` writes the codes of the search.
#[inline(always)]
pub(super) fn put_affine_codes<L: Lanes, F: Affine<N>, const N: usize>(
    l: L,
    x: &[f32],
    grids: &[(f32, f32); SUB_BLOCKS],
    block: &mut [u8],
    searched: impl Fn(usize, &[f32], &mut [u8]),
) {
    let mut codes = [0; SUPER_BLOCK];
    let (zero, top) = (l.splat(0.0), l.splat(F::SEARCH.top as f32));
    for (j, (x, codes)) in x.as_chunks::<N>().0.iter().zip(codes.as_chunks_mut::<N>().0).enumerate() {
        let (step, min) = grids[j];
        if step == 0.0 {
            searched(j, x, codes);
            continue;
        }
        let (step, min) = (l.splat(step), l.splat(min));
        for (x, codes) in x.as_chunks::<LANES>().0.iter().zip(codes.as_chunks_mut::<LANES>().0) {
            let code = l.nearest(l.div(l.add(l.array(x), min), step));
            l.put_bytes(l.min(l.max(code, zero), top), codes);
        }
    }
    F::pack(&codes, block);
}

/// Writes a super-block from the results of its search.
#[inline(always)]
pub(super) fn put_symmetric<L: Lanes, F: Symmetric>(l: L, x: &[f32], scales: &[f32; SUB_BLOCKS], block: &mut [u8]) {
    let steps = F::put_scales(scales, block);
    put_symmetric_codes::<L, F>(l, x, steps, block, |_, x, codes| searched_symmetric::<F>(x, codes));
}

/// Writes the codes of a super-block. For sub-block `j` with a step of zero, `searched` writes the codes of the search.
#[inline(always)]
pub(super) fn put_symmetric_codes<L: Lanes, F: Symmetric>(
    l: L,
    x: &[f32],
    steps: Option<[f32; SUB_BLOCKS]>,
    block: &mut [u8],
    searched: impl Fn(usize, &[f32], &mut [u8]),
) {
    let Some(steps) = steps else {
        block.fill(0);
        return;
    };
    let mut codes = [0; SUPER_BLOCK];
    let half = F::HALF as f32;
    let (low, high, half) = (l.splat(-half), l.splat(half - 1.0), l.splat(half));
    for (j, (x, codes)) in x.as_chunks::<LANES>().0.iter().zip(codes.as_chunks_mut::<LANES>().0).enumerate() {
        if steps[j] == 0.0 {
            searched(j, x, codes);
            continue;
        }
        let code = l.nearest(l.div(l.array(x), l.splat(steps[j])));
        l.put_bytes(l.add(l.min(l.max(code, low), high), half), codes);
    }
    F::pack(&codes, block);
}

/// The codes of the search.
#[cold]
#[inline(never)]
fn searched_affine<F: Affine<N>, const N: usize>(x: &[f32], codes: &mut [u8]) {
    search_affine::<F, N>(x, codes);
}

/// The codes of the search.
#[cold]
#[inline(never)]
fn searched_symmetric<F: Symmetric>(x: &[f32], codes: &mut [u8]) {
    F::search(x, codes);
}
