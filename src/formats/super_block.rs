//! How a super-block of 256 elements is encoded: a search in every sub-block, scales out of all of them, and codes
//! anew from the scales as they were stored. `super::encode` does the same, many sub-blocks at a time.

use super::nearest;
use super::scale_search::{Search, scale_and_min};
use super::{SUPER_BLOCK, Written};

/// Most sub-blocks of a super-block; formats with fewer leave the rest of an array alone.
pub(crate) const SUB_BLOCKS: usize = 16;

/// A format whose elements are `step * code - min`, in sub-blocks of `N`.
pub(crate) trait Affine<const N: usize>: Written {
    /// The search for a sub-block's scale and min.
    const SEARCH: Search;
    /// An element's weight in that search is its magnitude, and if this is set also the root of the mean square.
    const TYPICAL: bool;

    /// Writes scales and mins, and returns each sub-block's step and min as they are stored.
    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS];

    /// Writes codes.
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]);
}

/// A format whose elements are `step * (code - HALF)`, in sub-blocks of 16.
pub(crate) trait Symmetric: Written {
    /// Half of the number of codes.
    const HALF: i32;

    /// The search for a sub-block's scale; returns it, and writes codes.
    fn search(x: &[f32], codes: &mut [u8]) -> f32;

    /// Writes scales, and returns each sub-block's step as it is stored; `None` where all is zero, codes included.
    fn put_scales(scales: &[f32; SUB_BLOCKS], block: &mut [u8]) -> Option<[f32; SUB_BLOCKS]>;

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
    for (j, (x, codes)) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)).enumerate() {
        let (step, min) = grids[j];
        if step == 0.0 {
            continue;
        }
        for (code, &v) in codes.iter_mut().zip(x) {
            *code = nearest((v + min) / step).clamp(0, F::SEARCH.top) as u8;
        }
    }
    F::pack(&codes, block);
}

/// Encodes one super-block.
pub(super) fn encode_symmetric<F: Symmetric>(x: &[f32], block: &mut [u8]) {
    const N: usize = SUPER_BLOCK / SUB_BLOCKS;
    let mut codes = [0; SUPER_BLOCK];
    let mut scales = [0.0; SUB_BLOCKS];
    for (j, (x, codes)) in x.chunks_exact(N).zip(codes.chunks_exact_mut(N)).enumerate() {
        scales[j] = F::search(x, codes);
    }
    let Some(steps) = F::put_scales(&scales, block) else {
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
    F::pack(&codes, block);
}

/// The element of greatest magnitude, the first of them; zero if that is not above zero.
pub(super) fn greatest(x: &[f32; SUB_BLOCKS]) -> f32 {
    let mut found = 0.0f32;
    for &v in x {
        if v.abs() > found.abs() {
            found = v;
        }
    }
    found
}
