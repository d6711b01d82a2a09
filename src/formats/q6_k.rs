//! Q6_K: 256 elements in 210 bytes: four low bits each, two high bits each, sixteen signed scales, d.
//!
//! `x = d * scale * (code - 32)`. Of each 128 elements, element `i` and `i + 64` share a low byte, and `i`, `i + 32`,
//! `i + 64`, `i + 96` a high byte.

use super::encode::{symmetric, weighted};
use super::scale_search::{TINY, symmetric_scale};
use super::super_block::{SUB_BLOCKS, Symmetric, encode_symmetric, greatest, weighted_symmetric};
use super::view::{Centered, SuperBlockFormat, ViewVisitor, low_and_high, six_bits_of, twice, word64};
use super::{Format, InLanes, SUPER_BLOCK, Written, f16_at, nearest, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const SUB_BLOCK: usize = 16;
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q6_K;

impl Format for Q6_K {
    const TY: TensorType = TensorType::Q6_K;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, D);
        for (j, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
            let scale = d * f32::from(block[SCALES + j] as i8);
            for (i, x) in out.iter_mut().enumerate() {
                let (half, at) = (j / 8, j % 8 * SUB_BLOCK + i);
                let low = block[half * 64 + at % 64] >> (at / 64 * 4) & 15;
                let high = block[HIGH + half * 32 + at % 32] >> (at / 32 * 2) & 3;
                *x = scale * f32::from(i16::from(low | high << 4) - 32);
            }
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Q6_K {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        match importance {
            None => encode_symmetric::<Self>(x, block),
            Some(importance) => weighted_symmetric::<Self>(x, importance, block),
        }
    }
}

impl InLanes for Q6_K {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => symmetric::encode::<L, Self>(l, x, out),
            Some(importance) => weighted::symmetric::<L, Self, true>(l, x, importance, out),
        }
    }
}

impl Symmetric for Q6_K {
    const HALF: i32 = 32;

    fn search(x: &[f32], codes: &mut [u8]) -> f32 {
        let squares: [f32; SUB_BLOCK] = std::array::from_fn(|i| x[i] * x[i]);
        symmetric_scale(x, &squares, Self::HALF, codes)
    }

    fn weights(_: &[f32], importance: &[f32], _: f32) -> [f32; SUB_BLOCKS] {
        std::array::from_fn(|i| importance[i])
    }

    fn put_weighted_scales(
        scales: &[f32; SUB_BLOCKS],
        _: &[f32; SUB_BLOCKS],
        block: &mut [u8],
    ) -> Option<[f32; SUB_BLOCKS]> {
        Self::put_scales(scales, block)
    }

    fn put_scales(scales: &[f32; SUB_BLOCKS], block: &mut [u8]) -> Option<[f32; SUB_BLOCKS]> {
        let max = greatest(scales);
        if max.abs() < TINY {
            return None;
        }
        let inverse = -128.0 / max;
        let d = put_f16(block, D, 1.0 / inverse);
        let scales = scales.map(|s| nearest(inverse * s).min(127) as i8);
        block[SCALES..D].copy_from_slice(&scales.map(|s| s as u8));
        Some(scales.map(|s| d * f32::from(s)))
    }

    #[inline(always)]
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]) {
        let (low, high) = block[..SCALES].split_at_mut(HIGH);
        for ((codes, low), high) in codes.chunks_exact(128).zip(low.chunks_exact_mut(64)).zip(high.chunks_exact_mut(32))
        {
            for i in 0..32 {
                let [a, b, c, d] = [codes[i], codes[i + 32], codes[i + 64], codes[i + 96]];
                low[i] = a & 15 | (c & 15) << 4;
                low[i + 32] = b & 15 | (d & 15) << 4;
                high[i] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
            }
        }
    }
}

impl SuperBlockFormat for Q6_K {
    type Shape = Centered<32>;
    const SCALE_BIAS: i16 = 128;
    const FACTORS: usize = 208;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let ([a, b], [c, d]) = (low_and_high(l, block, 0), low_and_high(l, block, 64));
        let (first, second) = (twice(l, block, 128), twice(l, block, 160));
        // Four pairs of bits in each byte, to be moved to the fifth and sixth place.
        [
            six_bits_of(l, a, l.shl_halves::<4, 2>(first)),
            six_bits_of(l, b, l.shr_halves::<0, 2>(first)),
            six_bits_of(l, c, l.shl_halves::<4, 2>(second)),
            six_bits_of(l, d, l.shr_halves::<0, 2>(second)),
        ]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        // From signed bytes to unsigned ones.
        [word64(block, 192), word64(block, 200)].map(|bytes| bytes ^ 0x8080_8080_8080_8080)
    }
}
