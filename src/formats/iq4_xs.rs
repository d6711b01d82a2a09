//! IQ4_XS: 256 elements in 136 bytes: d, six-bit scales of eight sub-blocks, codes as in IQ4_NL.
//!
//! `x = d * (scale - 32) * v[code]`. A scale's high two bits stand in a word of 16 bits, its low four in a nibble.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::iq4_nl::{BIASED, VALUES, put_nibbles};
use super::view::{SuperBlockFormat, ViewVisitor, doubled, nibbles_as_bytes, word32};
use super::{Format, f16_at, u16_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const SUB_BLOCK: usize = 32;
const SCALES_HIGH: usize = 2;
const SCALES_LOW: usize = 4;
const CODES: usize = 8;

pub(super) struct Iq4Xs;

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

impl SuperBlockFormat for Iq4Xs {
    const MINS: bool = false;
    const ZERO: i16 = 128;
    const SCALE_BIAS: i16 = 32;
    const SUB_LEN: usize = 16;
    const FACTORS: usize = 0;
    const WIDE_SUMS: bool = true;
    const EIGHT_BITS: bool = true;

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
        // A scale's high two bits go to a byte of their own.
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
