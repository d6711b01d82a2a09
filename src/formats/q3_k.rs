//! Q3_K: 256 elements in 110 bytes: a high bit each, two low bits each, six-bit scales of sixteen sub-blocks, d.
//!
//! `x = d * (scale - 32) * (code - 4)`. Bit `j` of high-bit byte `i` belongs to element `32 j + i`.

use super::encode::{refined, weighted};
use super::q2_k::{pack_pairs, pair};
use super::scale_search::{refined_scale, symmetric_scale};
use super::super_block::{SUB_BLOCKS, Symmetric, encode_symmetric, greatest, spread, weighted_symmetric};
use super::view::{Centered, NIBBLES, SuperBlockFormat, ViewVisitor, twice, two_bits, word32, word64};
use super::{Format, InLanes, SUPER_BLOCK, Written, f16_at, nearest, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const SUB_BLOCK: usize = 16;
const CODES: usize = 32;
const SCALES: usize = 96;
const D: usize = 108;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q3_K;

impl Format for Q3_K {
    const TY: TensorType = TensorType::Q3_K;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, D);
        let scales = unpack_scales(&block[SCALES..D]);
        for (j, out) in out.chunks_exact_mut(SUB_BLOCK).enumerate() {
            let d = d * f32::from(i16::from(scales[j]) - 32);
            for (i, x) in out.iter_mut().enumerate() {
                let at = j * SUB_BLOCK + i;
                let high = block[at % 32] >> (at / 32) & 1;
                let code = i16::from(pair(&block[CODES..SCALES], at) | high << 2) - 4;
                *x = d * f32::from(code);
            }
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Q3_K {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        match importance {
            None => encode_symmetric::<Self>(x, block),
            Some(importance) => weighted_symmetric::<Self>(x, importance, block),
        }
    }
}

impl InLanes for Q3_K {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => refined::encode::<L, Self>(l, x, out),
            Some(importance) => weighted::symmetric::<L, Self, false>(l, x, importance, out),
        }
    }
}

impl Symmetric for Q3_K {
    const HALF: i32 = 4;

    fn search(x: &[f32], codes: &mut [u8]) -> f32 {
        refined_scale::<SUB_BLOCK>(x, Self::HALF, codes)
    }

    fn put_scales(scales: &[f32; SUB_BLOCKS], block: &mut [u8]) -> Option<[f32; SUB_BLOCKS]> {
        let max = greatest(scales);
        if max == 0.0 {
            block[SCALES..].fill(0);
            return Some([0.0; SUB_BLOCKS]);
        }
        let inverse = -32.0 / max;
        let six_bits = scales.map(|s| (i32::from(nearest(inverse * s) as i8).clamp(-32, 31) + 32) as u8);
        Some(put_scale_codes(&six_bits, 1.0 / inverse, block))
    }

    fn weights(x: &[f32], importance: &[f32], mean_square: f32) -> [f32; SUB_BLOCKS] {
        std::array::from_fn(|i| spread(importance[i], mean_square, x[i]))
    }

    fn put_weighted_scales(
        scales: &[f32; SUB_BLOCKS],
        sums: &[f32; SUB_BLOCKS],
        block: &mut [u8],
    ) -> Option<[f32; SUB_BLOCKS]> {
        let mut codes = [0; SUB_BLOCKS];
        let step = symmetric_scale(scales, sums, 32, &mut codes);
        Some(put_scale_codes(&codes, step, block))
    }

    #[inline(always)]
    fn pack(codes: &[u8; SUPER_BLOCK], block: &mut [u8]) {
        for (i, byte) in block[..CODES].iter_mut().enumerate() {
            *byte = (0..8).fold(0, |bits, j| bits | (codes[32 * j + i] >> 2) << j);
        }
        pack_pairs(&codes.map(|code| code & 3), &mut block[CODES..SCALES]);
    }
}

/// Writes the codes of scales and the step between them. Returns each sub-block's step as it is stored.
fn put_scale_codes(codes: &[u8; SUB_BLOCKS], step: f32, block: &mut [u8]) -> [f32; SUB_BLOCKS] {
    pack_scales(codes, &mut block[SCALES..D]);
    let d = put_f16(block, D, step);
    codes.map(|code| d * f32::from(i16::from(code) - 32))
}

/// The low four bits of scales 0 to 7 and 8 to 15 share eight bytes; the high two bits of scale `j` are in byte
/// `8 + j % 4`.
fn pack_scales(scales: &[u8; SUB_BLOCKS], out: &mut [u8]) {
    out.fill(0);
    for (j, &scale) in scales.iter().enumerate() {
        out[j % 8] |= (scale & 15) << (j / 8 * 4);
        out[8 + j % 4] |= scale >> 4 << (j / 4 * 2);
    }
}

fn unpack_scales(packed: &[u8]) -> [u8; 16] {
    std::array::from_fn(|j| packed[j % 8] >> (j / 8 * 4) & 15 | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4)
}

impl SuperBlockFormat for Q3_K {
    type Shape = Centered<4>;
    const SCALE_BIAS: i16 = 32;
    const FACTORS: usize = 108;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let (low, high) = (two_bits(l, block, 32), twice(l, block, 0));
        let third = |low, high| l.or_int(low, l.shl_int::<2>(l.and_bytes(high, 1)));
        [
            third(low[0], l.shr_halves::<0, 1>(high)),
            third(low[1], l.shr_halves::<2, 3>(high)),
            third(low[2], l.shr_halves::<4, 5>(high)),
            third(low[3], l.shr_halves::<6, 7>(high)),
        ]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        // Eight bytes of nibbles, low ones first; four bytes with two more bits of scales i, i + 4, i + 8 and i + 12.
        let (low, high) = (word64(block, 96), word32(block, 104));
        let two = |shift: u32| u64::from(high >> shift & 0x0303_0303);
        [low & NIBBLES | (two(0) | two(2) << 32) << 4, low >> 4 & NIBBLES | (two(4) | two(6) << 32) << 4]
    }
}
