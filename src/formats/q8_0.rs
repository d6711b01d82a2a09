//! Q8_0: 32 elements in 34 bytes: d, signed codes.
//!
//! `x = d * code`, with `d` such that the greatest magnitude is `127 d`.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::encode::blocks;
use super::view::{BlockFormat, CenteredBlock, ViewVisitor};
use super::{Format, InLanes, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q8_0;

impl Format for Q8_0 {
    const TY: TensorType = TensorType::Q8_0;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, 0);
        for (x, &code) in out.iter_mut().zip(&block[2..]) {
            *x = f32::from(code as i8) * d;
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.blocks::<Self>()
    }
}

impl Written for Q8_0 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        let greatest = x.iter().fold(0.0f32, |m, v| if m > v.abs() { m } else { v.abs() });
        let d = greatest / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        put_f16(block, 0, d);
        for (code, v) in block[2..].iter_mut().zip(x) {
            // The inverse of the smallest steps is infinite; x86 converts what is no integer to 0.
            let scaled = (v * inverse).round();
            *code = if scaled.is_finite() { scaled as i32 as i8 as u8 } else { 0 };
        }
    }
}

impl InLanes for Q8_0 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
        blocks::whole_bytes(l, x, out);
    }
}

impl BlockFormat for Q8_0 {
    type Shape = CenteredBlock<128>;
    const RUN: usize = 2;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int {
        // SAFETY: the slices have 32 bytes.
        let codes = unsafe { l.join(blocks[0][2..34].as_ptr(), blocks[1][2..34].as_ptr()) };
        l.xor_bytes(codes, 0x80)
    }

    #[inline(always)]
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2] {
        [Self::codes(l, [blocks[0], blocks[1]]), l.splat_int(0)]
    }
}
