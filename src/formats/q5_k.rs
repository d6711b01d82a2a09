//! Q5_K: 256 elements in 176 bytes: as Q4_K, with a fifth bit for every element.
//!
//! Bit `j` of fifth-bit byte `i` belongs to element `i` of sub-block `j`.

use super::encode::{affine, weighted};
use super::scale_search::Search;
use super::super_block::{Affine, Codes, SUB_BLOCKS, encode_affine, weighted_affine};
use super::view::{MinsOf32, SuperBlockFormat, ViewVisitor, nibbles, six_bits, twice};
use super::{Format, InLanes, SUPER_BLOCK, Written, six_bit_scales};
use crate::TensorType;
use crate::simd::lanes::Lanes;

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

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Q5_K {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        match importance {
            None => encode_affine::<Self, { six_bit_scales::SUB_BLOCK }>(x, block),
            Some(importance) => weighted_affine::<Self, { six_bit_scales::SUB_BLOCK }>(x, importance, block),
        }
    }
}

impl InLanes for Q5_K {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => affine::encode::<L, Self, { six_bit_scales::SUB_BLOCK }>(l, x, out),
            Some(importance) => weighted::affine::<L, Self, { six_bit_scales::SUB_BLOCK }>(l, x, importance, out),
        }
    }
}

impl Affine<{ six_bit_scales::SUB_BLOCK }> for Q5_K {
    const SEARCH: Search = Search { top: 31, first: -0.5, step: 0.1, trials: 15, absolute: false };
    const TYPICAL: bool = true;
    const SCALE_TOP: i32 = 63;
    const SPREAD: f32 = 2.0;

    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        six_bit_scales::put(scales, mins, block)
    }

    fn put_scale_codes(scales: &Codes, mins: &Codes, block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        let least = |values: &Codes| Codes { codes: values.codes.map(|code| code.min(63)), ..*values };
        six_bit_scales::put_codes(&least(scales), &least(mins), block)
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

impl SuperBlockFormat for Q5_K {
    type Shape = MinsOf32;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = 0;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let ([a, b], [c, d]) = (nibbles(l, block, 48), nibbles(l, block, 112));
        // Eight fifth bits in each byte, to be moved to the fifth place.
        let fifths = twice(l, block, 16);
        [
            l.or_int(a, l.and_bytes(l.shl_halves::<4, 2>(fifths), 16)),
            l.or_int(b, l.and_bytes(l.shl_halves::<3, 1>(fifths), 16)),
            l.or_int(c, l.and_bytes(l.shr_halves::<0, 2>(fifths), 16)),
            l.or_int(d, l.and_bytes(l.shr_halves::<1, 3>(fifths), 16)),
        ]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(l: L, block: &[u8]) -> [u64; 2] {
        six_bits(l, block)
    }
}
