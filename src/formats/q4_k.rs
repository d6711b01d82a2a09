//! Q4_K: 256 elements in 144 bytes: d, dmin, six-bit scales and mins of eight sub-blocks, four-bit codes.
//!
//! `x = d * scale * code - dmin * min`. Of each 64 elements the first 32 are the low nibbles of 32 bytes.

use super::encode::{affine, weighted};
use super::scale_search::Search;
use super::super_block::{Affine, Codes, SUB_BLOCKS, encode_affine, weighted_affine};
use super::view::{MinsOf32, SuperBlockFormat, ViewVisitor, nibbles, six_bits};
use super::{Format, InLanes, SUPER_BLOCK, Written, six_bit_scales};
use crate::TensorType;
use crate::simd::lanes::Lanes;

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

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Q4_K {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        match importance {
            None => encode_affine::<Self, { six_bit_scales::SUB_BLOCK }>(x, block),
            Some(importance) => weighted_affine::<Self, { six_bit_scales::SUB_BLOCK }>(x, importance, block),
        }
    }
}

impl InLanes for Q4_K {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => affine::encode::<L, Self, { six_bit_scales::SUB_BLOCK }>(l, x, out),
            Some(importance) => weighted::affine::<L, Self, { six_bit_scales::SUB_BLOCK }>(l, x, importance, out),
        }
    }
}

impl Affine<{ six_bit_scales::SUB_BLOCK }> for Q4_K {
    const SEARCH: Search = Search { top: 15, first: -1.0, step: 0.1, trials: 20, absolute: false };
    const TYPICAL: bool = true;
    const SCALE_TOP: i32 = 63;
    const SPREAD: f32 = 2.0;

    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        six_bit_scales::put(scales, mins, block)
    }

    fn put_scale_codes(scales: &Codes, mins: &Codes, block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        six_bit_scales::put_codes(scales, mins, block)
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

impl SuperBlockFormat for Q4_K {
    type Shape = MinsOf32;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = 0;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let ([a, b], [c, d]) = (nibbles(l, block, 16), nibbles(l, block, 80));
        [a, b, c, d]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(l: L, block: &[u8]) -> [u64; 2] {
        six_bits(l, block)
    }
}
