//! Q2_0: 64 elements in 18 bytes: d, two-bit codes.
//!
//! `x = d * (code - 1)`. Element `i` is bit pair `i % 4` of byte `i / 4`.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::tq2_0::{greatest_magnitude, nearest_ternary};
use super::view::{LongBlockFormat, OneScale, ViewVisitor};
use super::{Format, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const CODES: usize = 2;

pub(crate) struct Q2;

impl Format for Q2 {
    const TY: TensorType = TensorType::Q2_0;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (i, x) in out.iter_mut().enumerate() {
            let code = block[CODES + i / 4] >> (2 * (i % 4)) & 3;
            *x = d * f32::from(code as i8 - 1);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.long_blocks::<Self>()
    }
}

impl Written for Q2 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        let d = greatest_magnitude(x);
        put_f16(block, 0, d);
        for (byte, x) in block[CODES..].iter_mut().zip(x.chunks_exact(4)) {
            *byte = x.iter().zip(0..).fold(0, |bits, (&v, i)| bits | nearest_ternary(v, d).unwrap_or(0) << (2 * i));
        }
    }
}

impl LongBlockFormat for Q2 {
    type Shape = OneScale<1>;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8], _: usize) -> L::Int {
        // SAFETY: the slice has 16 bytes.
        let x = unsafe { l.lanes_of_bytes(block[CODES..CODES + 16].as_ptr()) };
        // Shifted by 0, 6, 12 and 18 bits, the pairs of bits of a byte come to the low bits of four bytes.
        let x = l.or_int(x, l.shl_int::<6>(x));
        l.and_bytes(l.or_int(x, l.shl_int::<12>(x)), 3)
    }
}
