//! IQ4_XS: 256 elements in 136 bytes: d, six-bit scales of eight sub-blocks, codes as in IQ4_NL.
//!
//! `x = d * (scale - 32) * v[code]`. A scale's high two bits are in a word of 16 bits, its low four in a nibble.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::encode::values;
use super::super_block::{spread, sum_of_squares};
use super::value_table::{BIASED, OfValues, OneByOne, PutCodes, VALUES, put_nibbles, scale, squares};
use super::view::{SuperBlockFormat, ViewVisitor, WideCentered, doubled, nibbles_as_bytes, word32};
use super::{Format, InLanes, Written, f16_at, nearest, put_f16, u16_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const SUB_BLOCK: usize = 32;
const SCALES_HIGH: usize = 2;
const SCALES_LOW: usize = 4;
const CODES: usize = 8;

pub(crate) struct Iq4Xs;

impl Format for Iq4Xs {
    const TY: TensorType = TensorType::IQ4_XS;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        let scales = scales(block);
        for (j, (bytes, out)) in
            block[CODES..].chunks_exact(SUB_BLOCK / 2).zip(out.chunks_exact_mut(SUB_BLOCK)).enumerate()
        {
            put_nibbles(bytes, &VALUES, d * f32::from(scales[j]), out);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Iq4Xs {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        let mean_square = sum_of_squares(x) * (2.0 / x.len() as f32);
        let weights = |x: &[f32], first: usize| match importance {
            None => squares(x),
            Some(importance) => std::array::from_fn(|i| spread(importance[first + i], mean_square, x[i])),
        };
        Self::put_block(x, &sub_block_scales(x, weights), &OneByOne, block);
    }
}

impl InLanes for Iq4Xs {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        values::encode::<L, Self>(l, x, importance, out);
    }
}

/// The best scale of each sub-block; `weights` returns the weights of a sub-block from its elements and the index of the first.
fn sub_block_scales(x: &[f32], weights: impl Fn(&[f32], usize) -> [f32; SUB_BLOCK]) -> [f32; 8] {
    std::array::from_fn(|j| {
        let sub_block = &x[j * SUB_BLOCK..][..SUB_BLOCK];
        scale(sub_block, &weights(sub_block, j * SUB_BLOCK))
    })
}

impl OfValues for Iq4Xs {
    #[inline(always)]
    fn put_block(x: &[f32], scales: &[f32], codes_of: &impl PutCodes, block: &mut [u8]) {
        let mut greatest = 0.0f32;
        for &s in scales {
            if s.abs() > greatest.abs() {
                greatest = s;
            }
        }
        let d = -greatest / 32.0;
        put_f16(block, 0, d);
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let (head, codes) = block.split_at_mut(CODES);
        head[SCALES_HIGH..].fill(0);
        let mut high = 0u16;
        for (j, &scale) in scales.iter().enumerate() {
            let code = nearest(inverse * scale).clamp(-32, 31);
            let sub_block = j * SUB_BLOCK;
            codes_of.put(&x[sub_block..][..SUB_BLOCK], d * code as f32, &mut codes[sub_block / 2..][..SUB_BLOCK / 2]);
            let code = (code + 32) as u8;
            head[SCALES_LOW + j / 2] |= (code & 15) << (4 * (j % 2));
            high |= u16::from(code >> 4) << (2 * j);
        }
        head[SCALES_HIGH..SCALES_LOW].copy_from_slice(&high.to_le_bytes());
    }
}

impl SuperBlockFormat for Iq4Xs {
    type Shape = WideCentered<128>;
    const SCALE_BIAS: i16 = 32;
    const FACTORS: usize = 0;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let mut codes = [l.splat_int(0); 4];
        for (codes, bytes) in codes.iter_mut().zip(block[CODES..].as_chunks::<SUB_BLOCK>().0) {
            // SAFETY: two sub-blocks have 16 bytes each.
            let nibbles = unsafe { l.nibbles(bytes.as_ptr(), bytes.as_ptr().add(16)) };
            *codes = l.lookup(&BIASED, nibbles);
        }
        codes
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        // The high two bits of each scale are spread to a byte each.
        let high = u64::from(u16_at(block, SCALES_HIGH));
        let high = (high | high << 24) & 0x0000_00ff_0000_00ff;
        let high = (high | high << 12) & 0x000f_000f_000f_000f;
        let high = (high | high << 6) & 0x0303_0303_0303_0303;
        doubled(nibbles_as_bytes(word32(block, SCALES_LOW)) | high << 4)
    }
}

/// The scales of the eight sub-blocks, -32 to 31.
fn scales(block: &[u8]) -> [i8; 8] {
    let high = u16_at(block, SCALES_HIGH);
    std::array::from_fn(|j| {
        let low = block[SCALES_LOW + j / 2] >> (4 * (j % 2)) & 15;
        (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32
    })
}
