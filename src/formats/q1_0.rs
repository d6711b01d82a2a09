//! Q1_0: 128 elements in 18 bytes: d, a bit each.
//!
//! `x` is `d` where the bit is set, and `-d` elsewhere. Bit `i % 8` of byte `i / 8` belongs to element `i`.

use super::view::{LongBlockFormat, OneScale, ViewVisitor, word32};
use super::{Format, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const CODES: usize = 2;

pub(crate) struct Q1;

impl Format for Q1 {
    const TY: TensorType = TensorType::Q1_0;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (i, x) in out.iter_mut().enumerate() {
            *x = if block[CODES + i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.long_blocks::<Self>()
    }
}

impl Written for Q1 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        let magnitudes = x.iter().fold(0.0, |sum, v| sum + v.abs());
        put_f16(block, 0, magnitudes / x.len() as f32);
        for (byte, x) in block[CODES..].iter_mut().zip(x.chunks_exact(8)) {
            *byte = x.iter().zip(0..).fold(0, |bits, (&v, i)| bits | u8::from(v >= 0.0) << i);
        }
    }
}

impl LongBlockFormat for Q1 {
    // Codes are 0 and 2.
    type Shape = OneScale<1>;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8], part: usize) -> L::Int {
        let at = CODES + 8 * part;
        l.bytes_of_bits([word32(block, at), word32(block, at + 4)], 2)
    }
}
