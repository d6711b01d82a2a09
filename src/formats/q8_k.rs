//! Q8_K: 256 elements in 292 bytes: d (f32), signed codes, their sums by 16 (which decoding does not need).
//!
//! `x = d * code`. llama.cpp computes with it and writes no files of it.

use super::view::ViewVisitor;
use super::{Format, SUPER_BLOCK};
use crate::TensorType;

const CODES: usize = 4;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(super) struct Q8_K;

impl Format for Q8_K {
    const TY: TensorType = TensorType::Q8_K;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
        for (x, &code) in out.iter_mut().zip(&block[CODES..CODES + SUPER_BLOCK]) {
            *x = d * f32::from(code as i8);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.decoded::<Self>()
    }
}
