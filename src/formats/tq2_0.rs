//! TQ2_0: 256 elements in 66 bytes: two-bit codes, d.
//!
//! `x = d * (code - 1)`. Of each 128 elements, four runs of 32 share 32 bytes, two bits each.

use super::encode::ternary;
use super::q2_k::{pack_pairs, pair};
use super::view::{Centered, ONES, SuperBlockFormat, ViewVisitor, two_bits};
use super::{Format, InLanes, SUPER_BLOCK, Written, f16_at, put_f16};
use crate::TensorType;
use crate::simd::lanes::Lanes;

const D: usize = 64;

pub(crate) struct Tq2;

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

impl Written for Tq2 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        put_block(ternaries(x), block);
    }
}

impl InLanes for Tq2 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
        for (x, block) in x.as_chunks().0.iter().zip(out.chunks_exact_mut(Self::TY.block_bytes())) {
            put_block(ternary::codes(l, x), block);
        }
    }
}

#[inline(always)]
fn put_block((codes, d): ([u8; SUPER_BLOCK], f32), block: &mut [u8]) {
    pack_pairs(&codes, &mut block[..D]);
    put_f16(block, D, d);
}

/// The codes of a super-block, and its scale.
pub(super) fn ternaries(x: &[f32]) -> ([u8; SUPER_BLOCK], f32) {
    let d = greatest_magnitude(x);
    let mut codes = [0; SUPER_BLOCK];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = nearest_ternary(v, d).unwrap_or(1);
    }
    (codes, d)
}

pub(super) fn greatest_magnitude(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |greatest, v| if greatest < v.abs() { v.abs() } else { greatest })
}

/// 0, 1 or 2: whether `x` is nearest to `-d`, 0 or `d`, of which the last is the greatest magnitude. `None` where `d` is
/// so small that its inverse is infinite.
pub(super) fn nearest_ternary(x: f32, d: f32) -> Option<u8> {
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let nearest = (x * inverse).round();
    nearest.is_finite().then(|| (nearest as i32 + 1) as u8)
}

impl SuperBlockFormat for Tq2 {
    type Shape = Centered<1>;
    const SCALE_BIAS: i16 = 0;
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
