//! Q4_1: 32 elements in 20 bytes: d, m, nibbles.
//!
//! `x = d * code + m`.

use super::blocks_of_32::{Grid, decode_codes, put_affine, put_affine_row};
use super::encode::{blocks, weighted};
use super::view::{BlockFormat, OffsetBlock, ViewVisitor, block_nibbles, run_nibbles};
use super::{Format, InLanes, Written, f16_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

#[allow(non_camel_case_types, reason = "the format's own name")]
pub(crate) struct Q4_1;

impl Format for Q4_1 {
    const TY: TensorType = TensorType::Q4_1;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        decode_codes(&Grid { d: f16_at(block, 0), m: f16_at(block, 2) }, 0, &block[4..], &[], out);
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.blocks::<Self>()
    }
}

impl Written for Q4_1 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        put_affine::<false>(x, block);
    }

    fn encode_row(x: &[f32], importance: &[f32], out: &mut [u8]) {
        put_affine_row::<Self, false>(x, importance, out);
    }
}

impl InLanes for Q4_1 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => blocks::affine::<L, false>(l, x, out),
            Some(importance) => weighted::affine_row::<L, Self, false>(l, x, importance, out),
        }
    }
}

impl BlockFormat for Q4_1 {
    type Shape = OffsetBlock;
    const RUN: usize = 4;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int {
        block_nibbles(l, blocks, 4)
    }

    #[inline(always)]
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2] {
        run_nibbles(l, blocks, 4)
    }
}
