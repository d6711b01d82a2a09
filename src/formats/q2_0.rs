//! Q2_0: 64 elements in 18 bytes: d, two-bit codes.
//!
//! `x = d * (code - 1)`. Element `i` is bit pair `i % 4` of byte `i / 4`.

use super::tq2_0::{greatest_magnitude, nearest_ternary};
use super::view::ViewVisitor;
use super::{Format, Written, f16_at, put_f16};
use crate::TensorType;

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
        visitor.decoded::<Self>()
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
