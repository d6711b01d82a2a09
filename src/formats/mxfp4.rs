//! MXFP4: 32 elements that share a power of two (E8M0), each a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6.
//!
//! The table holds twice the values, and the scale half of it.

#![allow(unsafe_code, reason = "vector stores go through raw pointers")]

use super::view::{BlockFormat, CenteredBlock, ViewVisitor, block_nibbles, run_nibbles};
use super::{Format, Written};
use crate::TensorType;
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Twice the value of each code.
pub(super) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

pub(crate) struct Mxfp4;

/// Half of 2^(e - 127).
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
}

/// The first code whose value is nearest.
pub(super) fn nearest_code(x: f32, d: f32) -> u8 {
    let mut best = (0, f32::INFINITY);
    for (code, &value) in (0..).zip(&VALUES) {
        let error = (f32::from(value) * d - x).abs();
        if error < best.1 {
            best = (code, error);
        }
    }
    best.0
}

impl Format for Mxfp4 {
    const TY: TensorType = TensorType::MXFP4;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let d = half_power(block[0]);
        for (i, &byte) in block[1..].iter().enumerate() {
            out[i] = f32::from(VALUES[usize::from(byte & 15)]) * d;
            out[i + 16] = f32::from(VALUES[usize::from(byte >> 4)]) * d;
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.blocks::<Self>()
    }
}

impl Written for Mxfp4 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        let greatest = x.iter().fold(0.0f32, |m, v| if m < v.abs() { v.abs() } else { m });
        let e = if greatest > 0.0 { (greatest.log2().floor() - 2.0 + 127.0) as u8 } else { 0 };
        let d = half_power(e);
        block[0] = e;
        for (i, byte) in block[1..].iter_mut().enumerate() {
            *byte = nearest_code(x[i], d) | nearest_code(x[i + 16], d) << 4;
        }
    }
}

/// The code that stands for zero.
pub(super) const ZERO: i16 = 16;
/// Twice the values, with [`ZERO`] added.
pub(super) const CODES: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];

impl BlockFormat for Mxfp4 {
    type Shape = CenteredBlock<ZERO>;
    const RUN: usize = 4;
    #[inline(always)]
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int {
        l.lookup(&CODES, block_nibbles(l, blocks, 1))
    }

    #[inline(always)]
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2] {
        let [low, high] = run_nibbles(l, blocks, 1);
        [l.lookup(&CODES, low), l.lookup(&CODES, high)]
    }

    #[inline(always)]
    fn factors<L: Lanes>(l: L, words: L::Int) -> [L::Float; 2] {
        let (mut exponents, mut scales) = ([0; LANES], [0.0; LANES]);
        // SAFETY: the array holds 16 integers.
        unsafe { l.store_int(exponents.as_mut_ptr(), words) };
        for (scale, word) in scales.iter_mut().zip(exponents) {
            let e = word as u32 & 0xff;
            *scale = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
        }
        [l.array(&scales), l.splat(0.0)]
    }
}

#[cfg(test)]
mod tests {
    use crate::TensorType;
    use crate::formats::codec;

    #[test]
    fn representable_values_come_back() {
        let codec = codec(TensorType::MXFP4).expect("codec");
        let x: Vec<f32> = (0..32).map(|i| [0.0, 0.5, -1.0, 1.5, 2.0, -3.0, 4.0, 6.0][i % 8] * 0.25).collect();
        let (mut block, mut back) = ([0; 17], [0.0; 32]);
        (codec.encode.expect("encoder"))(&x, None, &mut block);
        (codec.decode)(&block, &mut back);
        assert_eq!(x, back);
    }
}
