//! IQ4_NL: 32 elements in 18 bytes: d, four-bit codes that stand for the values of a table.
//!
//! `x = d * v[code]`. Byte `i` holds element `i` low and element `i + 16` high.

use super::view::{BlockFormat, ViewVisitor, block_nibbles};
use super::{Format, f16_at};
use crate::TensorType;
use crate::simd::lanes::Lanes;

/// The value of each code: close together near zero, where most weights are.
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

const CODES: usize = 2;

pub(super) struct Iq4Nl;

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

/// The values and 128.
pub(super) const BIASED: [u8; 16] = {
    let (mut biased, mut i) = ([0; 16], 0);
    while i < 16 {
        biased[i] = VALUES[i] as u8 ^ 0x80;
        i += 1;
    }
    biased
};

impl BlockFormat for Iq4Nl {
    const ZERO: i16 = 128;
    const OFFSET: bool = false;
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

/// Decodes nibbles by a table: the low ones are the first half of `out`, the high ones the second.
pub(super) fn put_nibbles(bytes: &[u8], values: &[i8; 16], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = scale * f32::from(values[usize::from(byte & 15)]);
        *high = scale * f32::from(values[usize::from(byte >> 4)]);
    }
}
