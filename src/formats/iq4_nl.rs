//! IQ4_NL: 32 elements in 18 bytes: d, four-bit codes that stand for the values of a table.
//!
//! `x = d * v[code]`. Byte `i` holds element `i` low and element `i + 16` high.

use super::blocks_of_32::LEN;
use super::encode::values::{self, OfValues, OneByOne, PutCodes};
use super::super_block::{spread, sum_of_squares};
use super::view::{BlockFormat, CenteredBlock, ViewVisitor, block_nibbles};
use super::{Format, InLanes, TINY, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

/// The value of each code: close together near zero, where most weights are.
pub(crate) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

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
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], out: &mut [u8]) {
        values::encode::<L, Self>(l, x, None, out);
    }

    #[inline(always)]
    fn encode_row_lanes<L: Lanes>(l: L, x: &[f32], importance: &[f32], out: &mut [u8]) {
        values::encode::<L, Self>(l, x, Some(importance), out);
    }
}

/// Squares of 32 elements: the weights of elements without importance.
pub(super) fn squares(x: &[f32]) -> [f32; LEN] {
    std::array::from_fn(|i| x[i] * x[i])
}

/// The scale of 32 elements that fits best by weighted error.
pub(super) fn scale(x: &[f32], weights: &[f32; LEN]) -> f32 {
    const TRIALS: i32 = 7;
    let (mut magnitude, mut max) = (0.0, 0.0);
    for &v in x {
        if v.abs() > magnitude {
            (magnitude, max) = (v.abs(), v);
        }
    }
    if magnitude < TINY {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for (&v, &w) in x.iter().zip(weights) {
            let q = f32::from(VALUES[usize::from(nearest_code(inverse * v))]);
            sum_qx += w * q * v;
            sum_q2 += w * q * q;
        }
        (sum_qx, sum_q2)
    };
    let least = f32::from(VALUES[0]);
    let (sum_qx, sum_q2) = sums(1.0 / (-max / least));
    let mut d = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { 0.0 };
    let mut best = d * sum_qx;
    for trial in -TRIALS..=TRIALS {
        let (sum_qx, sum_q2) = sums((trial as f32 + least) / max);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            d = sum_qx / sum_q2;
            best = d * sum_qx;
        }
    }
    d
}

/// Writes the codes of 32 elements for the scale `d`.
pub(super) fn put_codes(x: &[f32], d: f32, bytes: &mut [u8]) {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let (low, high) = x.split_at(LEN / 2);
    for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = nearest_code(inverse * low) | nearest_code(inverse * high) << 4;
    }
}

/// The code whose value is nearest; of two equally near, the greater.
fn nearest_code(x: f32) -> u8 {
    if x <= f32::from(VALUES[0]) {
        return 0;
    }
    let above = VALUES[1..15].iter().take_while(|&&value| x >= f32::from(value)).count() + 1;
    if x - f32::from(VALUES[above - 1]) < f32::from(VALUES[above]) - x { above as u8 - 1 } else { above as u8 }
}

/// The values plus 128.
pub(super) const BIASED: [u8; 16] = {
    let (mut biased, mut i) = ([0; 16], 0);
    while i < 16 {
        biased[i] = VALUES[i] as u8 ^ 0x80;
        i += 1;
    }
    biased
};

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

/// Decodes nibbles by a table: the low ones are the first half of `out`, the high ones the second.
pub(super) fn put_nibbles(bytes: &[u8], values: &[i8; 16], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = scale * f32::from(values[usize::from(byte & 15)]);
        *high = scale * f32::from(values[usize::from(byte >> 4)]);
    }
}
