//! Q2_0: 64 elements in 18 bytes: d, two-bit codes.
//!
//! `x = d * (code - 1)`. Element `i` is bit pair `i % 4` of byte `i / 4`.

use super::view::ViewVisitor;
use super::{Format, f16_at};
use crate::TensorType;

const CODES: usize = 2;

pub(super) struct Q2;

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
