//! IQ4_NL: 32 elements in 18 bytes: d, four-bit codes that stand for the values of a table.
//!
//! `x = d * v[code]`. Byte `i` holds element `i` low and element `i + 16` high.

use super::encode::values;
use super::super_block::{spread, sum_of_squares};
use super::value_table::{BIASED, OfValues, OneByOne, PutCodes, VALUES, put_nibbles, scale, squares};
use super::view::{BlockFormat, CenteredBlock, ViewVisitor, block_nibbles};
use super::{Format, InLanes, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const CODES: usize = 2;

pub(crate) struct Iq4Nl;

impl Format for Iq4Nl {
    const TY: TensorType = TensorType::IQ4_NL;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        put_nibbles(&block[CODES..], &VALUES, f16_at(block, 0), out);
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.blocks::<Self>()
    }
}

impl Written for Iq4Nl {
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
        let weights = match importance {
            None => squares(x),
            Some(importance) => {
                let mean_square = sum_of_squares(x) * (2.0 / x.len() as f32);
                std::array::from_fn(|i| spread(importance[i], mean_square, x[i]))
            }
        };
        Self::put_block(x, &[scale(x, &weights)], &OneByOne, block);
    }
}

impl OfValues for Iq4Nl {
    #[inline(always)]
    fn put_block(x: &[f32], scales: &[f32], codes_of: &impl PutCodes, block: &mut [u8]) {
        put_f16(block, 0, scales[0]);
        codes_of.put(x, scales[0], &mut block[CODES..]);
    }
}

impl InLanes for Iq4Nl {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        values::encode::<L, Self>(l, x, importance, out);
    }
}

impl BlockFormat for Iq4Nl {
    type Shape = CenteredBlock<128>;
    const RUN: usize = 2;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int {
        l.lookup(&BIASED, block_nibbles(l, blocks, CODES))
    }

    #[inline(always)]
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2] {
        [Self::codes(l, [blocks[0], blocks[1]]), l.splat_int(0)]
    }
}
