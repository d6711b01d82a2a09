//! Q4_K: 256 elements in 144 bytes: d, dmin, six-bit scales and mins of eight sub-blocks, four-bit codes.
//!
//! `x = d * scale * code - dmin * min`. Of each 64 elements the first 32 are the low nibbles of 32 bytes.

use super::scale_search::Search;
use super::super_block::{Affine, SUB_BLOCKS, encode_affine};
use super::{Format, SUPER_BLOCK, Written, six_bit_scales};
use crate::TensorType;

const CODES: usize = 16;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q4_K;

impl Format for Q4_K {
    const TY: TensorType = TensorType::Q4_K;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let grids = six_bit_scales::grids(block);
        for ((bytes, out), grids) in
            block[CODES..].chunks_exact(32).zip(out.chunks_exact_mut(64)).zip(grids.chunks_exact(2))
        {
            for (i, &byte) in bytes.iter().enumerate() {
                out[i] = grids[0].0 * f32::from(byte & 15) - grids[0].1;
                out[i + 32] = grids[1].0 * f32::from(byte >> 4) - grids[1].1;
            }
        }
    }
}

impl Written for Q4_K {
    fn encode_block(x: &[f32], _importance: Option<&[f32]>, block: &mut [u8]) {
        encode_affine::<Self, { six_bit_scales::SUB_BLOCK }>(x, block);
    }
}

impl Affine<{ six_bit_scales::SUB_BLOCK }> for Q4_K {
    const SEARCH: Search = Search { top: 15, first: -1.0, step: 0.1, trials: 20, absolute: false };
    const TYPICAL: bool = true;

    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        six_bit_scales::put(scales, mins, block)
    }

    #[inline(always)]
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]) {
        for (bytes, codes) in block[CODES..].chunks_exact_mut(32).zip(codes.chunks_exact(64)) {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[i] | codes[i + 32] << 4;
            }
        }
    }
}
