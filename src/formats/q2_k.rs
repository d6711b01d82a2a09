//! Q2_K: 256 elements in 84 bytes: four-bit scales and mins of sixteen sub-blocks, two-bit codes, d, dmin.
//!
//! `x = d * scale * code - dmin * min`. Of each 128 elements, four runs of 32 share 32 bytes, two bits each.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::encode::{affine, weighted};
use super::scale_search::Search;
use super::super_block::{Affine, Codes, SUB_BLOCKS, encode_affine, weighted_affine};
use super::view::{MinsOf16, NIBBLES, SuperBlockFormat, ViewVisitor, two_bits, word64};
use super::{Format, InLanes, SUPER_BLOCK, Written, f16_at, nearest, put_f16};
use crate::TensorType;
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

const SUB_BLOCK: usize = 16;
const CODES: usize = 16;
const D: usize = 80;
const D_MIN: usize = 82;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q2_K;

impl Format for Q2_K {
    const TY: TensorType = TensorType::Q2_K;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let (d, dmin) = (f16_at(block, D), f16_at(block, D_MIN));
        for (j, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
            let (scale, min) = (d * f32::from(block[j] & 15), dmin * f32::from(block[j] >> 4));
            for (i, x) in out.iter_mut().enumerate() {
                *x = scale * f32::from(pair(&block[CODES..D], j * SUB_BLOCK + i)) - min;
            }
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Q2_K {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        match importance {
            None => encode_affine::<Self, SUB_BLOCK>(x, block),
            Some(importance) => weighted_affine::<Self, SUB_BLOCK>(x, importance, block),
        }
    }
}

impl InLanes for Q2_K {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => affine::encode::<L, Self, SUB_BLOCK>(l, x, out),
            Some(importance) => weighted::affine::<L, Self, SUB_BLOCK>(l, x, importance, out),
        }
    }
}

impl Affine<SUB_BLOCK> for Q2_K {
    const SEARCH: Search = Search { top: 3, first: -0.5, step: 0.1, trials: 15, absolute: true };
    const TYPICAL: bool = false;
    const SCALE_TOP: i32 = 15;
    const SPREAD: f32 = 1.0;

    fn put_scales(scales: &[f32; SUB_BLOCKS], mins: &[f32; SUB_BLOCKS], block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        Self::put_scale_codes(&four_bits(scales), &four_bits(mins), block)
    }

    fn put_scale_codes(scales: &Codes, mins: &Codes, block: &mut [u8]) -> [(f32, f32); SUB_BLOCKS] {
        let (d, dmin) = (put_f16(block, D, scales.step), put_f16(block, D_MIN, mins.step));
        for j in 0..SUB_BLOCKS {
            block[j] = scales.codes[j] | mins.codes[j] << 4;
        }
        std::array::from_fn(|j| (d * f32::from(block[j] & 15), dmin * f32::from(block[j] >> 4)))
    }

    #[inline(always)]
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]) {
        pack_pairs(codes, &mut block[CODES..D]);
    }
}

/// Four bits for each value, and the step between them.
fn four_bits(values: &[f32; SUB_BLOCKS]) -> Codes {
    let mut max = 0.0f32;
    for &v in values {
        if v > max {
            max = v;
        }
    }
    if max > 0.0 {
        let inverse = 15.0 / max;
        Codes { codes: values.map(|v| nearest(inverse * v) as u8), step: max / 15.0 }
    } else {
        Codes { codes: [0; SUB_BLOCKS], step: 0.0 }
    }
}

/// Packs two-bit codes, as Q2_K and Q3_K lay them out.
#[inline(always)]
pub(super) fn pack_pairs(codes: &[u8; SUPER_BLOCK], out: &mut [u8]) {
    for (bytes, codes) in out.chunks_exact_mut(32).zip(codes.chunks_exact(128)) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = codes[i] | codes[i + 32] << 2 | codes[i + 64] << 4 | codes[i + 96] << 6;
        }
    }
}

/// The two-bit code of element `i`.
pub(super) fn pair(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

impl SuperBlockFormat for Q2_K {
    type Shape = MinsOf16;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = 80;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        two_bits(l, block, 16)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        [word64(block, 0) & NIBBLES, word64(block, 8) & NIBBLES]
    }

    #[inline(always)]
    fn min_bytes(block: &[u8]) -> [u64; 2] {
        [word64(block, 0) >> 4 & NIBBLES, word64(block, 8) >> 4 & NIBBLES]
    }

    #[inline(always)]
    unsafe fn mins_of<L: Lanes>(l: L, blocks: &[*const u8; LANES]) -> [L::Int; 4] {
        // SAFETY: blocks begin with sixteen bytes of scales and mins.
        let mut words = unsafe { l.four_words_at(blocks) };
        for word in &mut words {
            *word = l.and_bytes(l.shr_halves::<4, 4>(*word), 15);
        }
        words
    }
}
