//! Q4_0: 32 elements in 18 bytes: d, nibbles.
//!
//! `x = d * (code - 8)`, with `d` such that the element of greatest magnitude is `-8 d`.

use super::blocks_of_32::{Grid, decode_codes, put_symmetric, put_symmetric_row};
use super::encode::{blocks, weighted};
use super::view::{BlockFormat, CenteredBlock, ViewVisitor, block_nibbles, run_nibbles};
use super::{Format, InLanes, Written, f16_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q4_0;

impl Format for Q4_0 {
    const TY: TensorType = TensorType::Q4_0;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        decode_codes(&Grid { d: f16_at(block, 0), m: -0.0 }, 8, &block[2..], &[], out);
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.blocks::<Self>()
    }
}

impl Written for Q4_0 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        put_symmetric::<false>(x, block);
    }

    fn encode_row(x: &[f32], importance: &[f32], out: &mut [u8]) {
        put_symmetric_row::<Self, false>(x, importance, out);
    }
}

impl InLanes for Q4_0 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => blocks::symmetric::<L, false>(l, x, out),
            Some(importance) => weighted::symmetric_row::<L, Self, false>(l, x, importance, out),
        }
    }
}

impl BlockFormat for Q4_0 {
    type Shape = CenteredBlock<8>;
    const RUN: usize = 4;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int {
        block_nibbles(l, blocks, 2)
    }

    #[inline(always)]
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2] {
        run_nibbles(l, blocks, 2)
    }
}
