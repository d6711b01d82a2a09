//! Q1_0: 128 elements in 18 bytes: d, a bit each.
//!
//! `x` is `d` where the bit is set, and `-d` elsewhere. Bit `i % 8` of byte `i / 8` belongs to element `i`.

use super::view::ViewVisitor;
use super::{Format, f16_at};
use crate::TensorType;

const CODES: usize = 2;

pub(super) struct Q1;

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
        visitor.decoded::<Self>()
    }
}
