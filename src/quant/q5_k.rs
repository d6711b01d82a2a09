//! Q5_K: 256 elements in 176 bytes: as Q4_K, with a fifth bit for every element.
//!
//! Bit `j` of fifth-bit byte `i` belongs to element `i` of sub-block `j`.

use super::scale_search::Search;
use super::super_block::{Affine, SUB_BLOCKS, encode_affine};
use super::{Format, SUPER_BLOCK, Written, six_bit_scales};
use crate::TensorType;

const FIFTH: usize = 16;
const CODES: usize = 48;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q5_K;

impl Format for Q5_K {
    const TY: TensorType = TensorType::Q5_K;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let grids = six_bit_scales::grids(block);
        let (fifth, nibbles) = block[FIFTH..].split_at(CODES - FIFTH);
        for (j, (out, (scale, min))) in out.chunks_exact_mut(32).zip(grids).enumerate() {
            let nibbles = &nibbles[j / 2 * 32..][..32];
            for (i, x) in out.iter_mut().enumerate() {
                let low = nibbles[i] >> (4 * (j % 2)) & 15;
                let code = low | (fifth[i] >> j & 1) << 4;
                *x = scale * f32::from(code) - min;
            }
        }
    }
}

impl Written for Q5_K {
    fn encode_block(x: &[f32], _importance: Option<&[f32]>, block: &mut [u8]) {
        encode_affine::<Self, { six_bit_scales::SUB_BLOCK }>(x, block);
    }
}

impl Affine<{ six_bit_scales::SUB_BLOCK }> for Q5_K {
    const SEARCH: Search = Search { top: 31, first: -0.5, step: 0.1, trials: 15, absolute: false };
    const TYPICAL: bool = true;

    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        six_bit_scales::put(scales, mins, block)
    }

    #[inline(always)]
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]) {
        let (fifth, nibbles) = block[FIFTH..].split_at_mut(CODES - FIFTH);
        for (i, byte) in fifth.iter_mut().enumerate() {
            *byte = (0..8).fold(0, |bits, j| bits | (codes[32 * j + i] >> 4) << j);
        }
        for (bytes, codes) in nibbles.chunks_exact_mut(32).zip(codes.chunks_exact(64)) {
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = codes[i] & 15 | (codes[i + 32] & 15) << 4;
            }
        }
    }
}
