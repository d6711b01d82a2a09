//! Q8_1: 32 elements in 36 bytes: d, d times the sum of all codes (which decoding does not need), signed codes.
//!
//! `x = d * code`. llama.cpp computes with it and writes no files of it.

use super::view::ViewVisitor;
use super::{Format, f16_at};
use crate::TensorType;

const CODES: usize = 4;

pub(super) struct Q8_1;

impl Format for Q8_1 {
    const TY: TensorType = TensorType::Q8_1;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (x, &code) in out.iter_mut().zip(&block[CODES..]) {
            *x = d * f32::from(code as i8);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.decoded::<Self>()
    }
}
