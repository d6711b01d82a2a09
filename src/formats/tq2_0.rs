//! TQ2_0: 256 elements in 66 bytes: two-bit codes, d.
//!
//! `x = d * (code - 1)`. Of each 128 elements, four runs of 32 share 32 bytes, two bits each.

use super::q2_k::pair;
use super::view::{ONES, SuperBlockFormat, ViewVisitor, two_bits};
use super::{Format, f16_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const D: usize = 64;

pub(super) struct Tq2;

impl Format for Tq2 {
    const TY: TensorType = TensorType::TQ2_0;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, D);
        for (i, x) in out.iter_mut().enumerate() {
            *x = d * f32::from(pair(&block[..D], i) as i8 - 1);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl SuperBlockFormat for Tq2 {
    const MINS: bool = false;
    const ZERO: i16 = 1;
    const SCALE_BIAS: i16 = 0;
    const SUB_LEN: usize = 16;
    const FACTORS: usize = D;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        two_bits(l, block, 0)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, _: &[u8]) -> [u64; 2] {
        [ONES; 2]
    }
}
