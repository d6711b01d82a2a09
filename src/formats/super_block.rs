//! Encodes a super-block of 256 elements: a search in every sub-block, quantized scales from the results, and codes
//! recomputed with the scales as they were stored. `super::encode` does the same for many sub-blocks at a time.

use super::nearest;
use super::scale_search::{self, Search, positive_scale, scale_and_min, symmetric_scale};
use super::{SUPER_BLOCK, Written};

/// Maximum sub-blocks of a super-block; formats with fewer do not use the rest of an array.
pub(crate) const SUB_BLOCKS: usize = 16;

/// A format whose elements are `step * code - min`, in sub-blocks of `N`.
pub(crate) trait Affine<const N: usize>: Written {
    /// The search for a sub-block's scale and min.
    const SEARCH: Search;
    /// An element's weight in that search is its magnitude; if this is set, plus the root of the mean square.
    const TYPICAL: bool;

    /// For elements with importance: the highest code of a scale or min, and the factor of the mean square in weights.
    const SCALE_TOP: i32;
    const SPREAD: f32;

    /// Writes scales and mins, and returns each sub-block's step and min as they are stored.
    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS];

    /// The same for scales and mins that are codes already, each with the step between them.
    fn put_scale_codes(scales: &Codes, mins: &Codes, block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS];

    /// Writes codes.
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]);
}

/// Codes of sub-blocks' scales or mins, and the step between them.
pub(crate) struct Codes {
    pub codes: [u8; SUB_BLOCKS],
    pub step: f32,
}

/// A format whose elements are `step * (code - HALF)`, in sub-blocks of 16.
pub(crate) trait Symmetric: Written {
    /// Half of the number of codes.
    const HALF: i32;

    /// The search for a sub-block's scale; returns it, and writes codes.
    fn search(x: &[f32], codes: &mut [u8]) -> f32;

    /// Writes scales, and returns each sub-block's step as it is stored; `None` if everything is zero, codes included.
    fn put_scales(scales: &[f32; SUB_BLOCKS], block: &mut [u8]) -> Option<[f32; SUB_BLOCKS]>;

    /// The weights of a sub-block's elements from their importance and the mean square of the super-block.
    fn weights(x: &[f32], importance: &[f32], mean_square: f32) -> [f32; SUB_BLOCKS];

    /// As [`put_scales`](Self::put_scales) for elements with importance; `sums` are the sums of weights of each sub-block.
    fn put_weighted_scales(
        scales: &[f32; SUB_BLOCKS],
        sums: &[f32; SUB_BLOCKS],
        block: &mut [u8],
    ) -> Option<[f32; SUB_BLOCKS]>;

    /// Writes codes.
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]);
}

/// The search of one sub-block; returns scale and (negated) min, and writes codes.
pub(crate) fn search_affine<F: Affine<N>, const N: usize>(x: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let mut typical = 0.0;
    if F::TYPICAL {
        let mut squares = 0.0;
        for &v in x {
            squares += v * v;
        }
        typical = (squares / N as f32).sqrt();
    }
    let weights: [f32; N] = std::array::from_fn(|i| typical + x[i].abs());
    scale_and_min(x, &weights, codes, &F::SEARCH)
}

/// Encodes one super-block.
pub(super) fn encode_affine<F: Affine<N>, const N: usize>(x: &[f32], block: &mut [u8]) {
    let mut codes = [0; SUPER_BLOCK];
    let (mut scales, mut mins) = ([0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS]);
    for (j, (x, codes)) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)).enumerate() {
        (scales[j], mins[j]) = search_affine::<F, N>(x, codes);
    }
    let grids = F::put_scales(&scales, &mins, block);
    put_affine_codes::<F, N>(x, &grids, &mut codes, block);
}

/// Encodes one super-block whose elements have importance.
pub(crate) fn weighted_affine<F: Affine<N>, const N: usize>(x: &[f32], importance: &[f32], block: &mut [u8]) {
    let mean_square = F::SPREAD * sum_of_squares(x) / SUPER_BLOCK as f32;
    let mut codes = [0; SUPER_BLOCK];
    let (mut scales, mut mins, mut sums) = ([0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS]);
    let sub_blocks = x.chunks_exact(N).zip(importance.chunks_exact(N)).zip(codes.chunks_exact_mut(N));
    for (j, ((x, importance), codes)) in sub_blocks.enumerate() {
        let weights: [f32; N] = std::array::from_fn(|i| spread(importance[i], mean_square, x[i]));
        sums[j] = in_order(&weights);
        (scales[j], mins[j]) = scale_and_min(x, &weights, codes, &weighted_search::<F, N>());
    }
    let grids = put_weighted_scales::<F, N>(&scales, &mins, &sums, block);
    put_affine_codes::<F, N>(x, &grids, &mut codes, block);
}

/// The search for a sub-block's scale and min where elements have importance.
pub(crate) const fn weighted_search<F: Affine<N>, const N: usize>() -> Search {
    scale_search::weighted(F::SEARCH.top)
}

/// Finds codes for scales and mins by the `sums` of sub-blocks' weights, and writes them.
pub(crate) fn put_weighted_scales<F: Affine<N>, const N: usize>(
    scales: &[f32; SUB_BLOCKS],
    mins: &[f32; SUB_BLOCKS],
    sums: &[f32; SUB_BLOCKS],
    block: &mut [u8],
) -> [(f32, f32); SUB_BLOCKS] {
    let [scales, mins] = [scales, mins].map(|values| {
        let mut codes = [0; SUB_BLOCKS];
        let count = SUPER_BLOCK / N;
        let step = positive_scale(&values[..count], &sums[..count], F::SCALE_TOP, &mut codes[..count]);
        Codes { codes, step }
    });
    F::put_scale_codes(&scales, &mins, block)
}

/// Writes the codes of a super-block. Sub-blocks with a step of zero keep the codes of the search.
fn put_affine_codes<F: Affine<N>, const N: usize>(
    x: &[f32],
    grids: &[(f32, f32); SUB_BLOCKS],
    codes: &mut [u8; SUPER_BLOCK],
    block: &mut [u8],
) {
    for (j, (x, codes)) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)).enumerate() {
        let (step, min) = grids[j];
        if step == 0.0 {
            continue;
        }
        for (code, &v) in codes.iter_mut().zip(x) {
            *code = nearest((v + min) / step).clamp(0, F::SEARCH.top) as u8;
        }
    }
    F::pack(codes, block);
}

/// Encodes one super-block.
pub(super) fn encode_symmetric<F: Symmetric>(x: &[f32], block: &mut [u8]) {
    const N: usize = SUPER_BLOCK / SUB_BLOCKS;
    let mut codes = [0; SUPER_BLOCK];
    let mut scales = [0.0; SUB_BLOCKS];
    for (j, (x, codes)) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)).enumerate() {
        scales[j] = F::search(x, codes);
    }
    let steps = F::put_scales(&scales, block);
    put_symmetric_codes::<F>(x, steps, &mut codes, block);
}

/// Encodes one super-block whose elements have importance.
pub(crate) fn weighted_symmetric<F: Symmetric>(x: &[f32], importance: &[f32], block: &mut [u8]) {
    const N: usize = SUPER_BLOCK / SUB_BLOCKS;
    let mean_square = 2.0 * sum_of_squares(x) / SUPER_BLOCK as f32;
    let mut codes = [0; SUPER_BLOCK];
    let (mut scales, mut sums) = ([0.0; SUB_BLOCKS], [0.0; SUB_BLOCKS]);
    let sub_blocks = x.chunks_exact(N).zip(importance.chunks_exact(N)).zip(codes.chunks_exact_mut(N));
    for (j, ((x, importance), codes)) in sub_blocks.enumerate() {
        let weights = F::weights(x, importance, mean_square);
        sums[j] = in_order(&weights);
        scales[j] = symmetric_scale(x, &weights, F::HALF, codes);
    }
    let steps = F::put_weighted_scales(&scales, &sums, block);
    put_symmetric_codes::<F>(x, steps, &mut codes, block);
}

/// The weight of an element: `importance * sqrt(mean_square + x * x)`, with the mean square already multiplied by its factor.
#[inline(always)]
pub(crate) fn spread(importance: f32, mean_square: f32, x: f32) -> f32 {
    importance * (mean_square + x * x).sqrt()
}

/// The sum of squares from the first element to the last.
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, &v| sum + v * v)
}

/// The sum from the first element to the last.
fn in_order(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, &v| sum + v)
}

/// Writes the codes of a super-block. Sub-blocks with a step of zero keep the codes of the search.
fn put_symmetric_codes<F: Symmetric>(
    x: &[f32],
    steps: Option<[f32; SUB_BLOCKS]>,
    codes: &mut [u8; SUPER_BLOCK],
    block: &mut [u8],
) {
    const N: usize = SUPER_BLOCK / SUB_BLOCKS;
    let Some(steps) = steps else {
        block.fill(0);
        return;
    };
    for (j, (x, codes)) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)).enumerate() {
        if steps[j] == 0.0 {
            continue;
        }
        for (code, &v) in codes.iter_mut().zip(x) {
            *code = (nearest(v / steps[j]).clamp(-F::HALF, F::HALF - 1) + F::HALF) as u8;
        }
    }
    F::pack(codes, block);
}

/// The element of greatest magnitude (the first of several); zero if all are zero.
pub(super) fn greatest(x: &[f32; SUB_BLOCKS]) -> f32 {
    let mut found = 0.0f32;
    for &v in x {
        if v.abs() > found.abs() {
            found = v;
        }
    }
    found
}
