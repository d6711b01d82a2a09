//! TQ1_0: 256 elements in 54 bytes: -1, 0 or 1 each, five to a byte, d.
//!
//! `x = d * (digit - 1)`. A byte divided by 256 is a fraction whose base-three digits after the point are the elements:
//! multiplied by 3, the next digit is the carry out of the byte. The last four bytes hold four digits.

use super::encode::ternary;
use super::tq2_0::ternaries;
use super::view::{Centered, ONES, SuperBlockFormat, ViewVisitor, vectors};
use super::{Format, InLanes, SUPER_BLOCK, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const D: usize = 52;
/// Runs of bytes: the first, how many, digits in each. Digit `n` of all bytes of a run come before digit `n + 1`.
const RUNS: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

pub(crate) struct Tq1;

impl Format for Tq1 {
    const TY: TensorType = TensorType::TQ1_0;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = f16_at(block, D);
        let mut out = out.iter_mut();
        for (first, bytes, digits) in RUNS {
            let mut power = 1u8;
            for _ in 0..digits {
                for (&byte, x) in block[first..first + bytes].iter().zip(&mut out) {
                    *x = d * f32::from(digit(byte.wrapping_mul(power)) as i8 - 1);
                }
                power = power.wrapping_mul(3);
            }
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.super_blocks::<Self>()
    }
}

impl Written for Tq1 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        put_block(ternaries(x), block);
    }
}

impl InLanes for Tq1 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
        for (x, block) in x.as_chunks().0.iter().zip(out.chunks_exact_mut(Self::TY.block_bytes())) {
            put_block(ternary::codes(l, x), block);
        }
    }
}

#[inline(always)]
fn put_block((codes, d): ([u8; SUPER_BLOCK], f32), block: &mut [u8]) {
    let mut rest = codes.as_slice();
    for (first, bytes, digits) in RUNS {
        let (codes, after) = rest.split_at(bytes * digits);
        rest = after;
        for (m, byte) in block[first..first + bytes].iter_mut().enumerate() {
            let mut number = 0;
            for n in 0..5 {
                // With only four digits, the last one is zero.
                number = 3 * number + if n < digits { u16::from(codes[m + n * bytes]) } else { 0 };
            }
            // The smallest fraction of 256 whose first five digits are these.
            *byte = (number * 256).div_ceil(243) as u8;
        }
    }
    put_f16(block, D, d);
}

impl SuperBlockFormat for Tq1 {
    type Shape = Centered<1>;
    const SCALE_BIAS: i16 = 0;
    const FACTORS: usize = D;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let mut bytes = [0; SUPER_BLOCK];
        let mut out = bytes.iter_mut();
        for (first, count, digits) in RUNS {
            let mut power = 1u8;
            for _ in 0..digits {
                for (&byte, code) in block[first..first + count].iter().zip(&mut out) {
                    *code = digit(byte.wrapping_mul(power));
                }
                power = power.wrapping_mul(3);
            }
        }
        let mut codes = [0; 32];
        for (code, bytes) in codes.iter_mut().zip(bytes.as_chunks().0) {
            *code = u64::from_le_bytes(*bytes);
        }
        vectors(l, &codes)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, _: &[u8]) -> [u64; 2] {
        [ONES; 2]
    }
}

/// The first base-three digit of `fraction / 256`.
fn digit(fraction: u8) -> u8 {
    ((u16::from(fraction) * 3) >> 8) as u8
}
