//! NVFP4: 64 elements in 36 bytes: four scales (unsigned E4M3), a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 each.
//!
//! Of each 16 elements, byte `i` holds element `i` low and element `i + 8` high. The table holds twice the values, and
//! the scale half of it.

use super::mxfp4::{VALUES, nearest_code};
use super::tq2_0::greatest_magnitude;
use super::value_table::put_nibbles;
use super::view::ViewVisitor;
use super::{Format, Written};
use crate::TensorType;

const SUB_BLOCK: usize = 16;
const CODES: usize = 4;

pub(crate) struct Nvfp4;

impl Format for Nvfp4 {
    const TY: TensorType = TensorType::NVFP4;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        let (scales, codes) = block.split_at(CODES);
        for ((&scale, bytes), out) in
            scales.iter().zip(codes.chunks_exact(SUB_BLOCK / 2)).zip(out.chunks_exact_mut(SUB_BLOCK))
        {
            put_nibbles(bytes, &VALUES, half_scale(scale), out);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.decoded::<Self>()
    }
}

impl Written for Nvfp4 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        let (scales, codes) = block.split_at_mut(CODES);
        for ((scale, bytes), x) in
            scales.iter_mut().zip(codes.chunks_exact_mut(SUB_BLOCK / 2)).zip(x.chunks_exact(SUB_BLOCK))
        {
            // The greatest value is 6.
            *scale = nearest_scale(greatest_magnitude(x) / 6.0);
            let d = half_scale(*scale);
            let (low, high) = x.split_at(SUB_BLOCK / 2);
            for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
                *byte = nearest_code(low, d) | nearest_code(high, d) << 4;
            }
        }
    }
}

/// The unsigned E4M3 number for a scale, at most 448: rounded by the first bit that is left out.
fn nearest_scale(x: f32) -> u8 {
    const GREATEST: u8 = 0x7e;
    if x.is_nan() || x <= 0.0 {
        return 0;
    }
    let bits = x.min(448.0).to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((x * 512.0 + 0.5) as i32).min(7) as u8;
    }
    if exponent >= 15 {
        return GREATEST;
    }
    // Three bits of mantissa and the one after; a carry goes to the exponent.
    let rounded = ((exponent as u32) << 3 | bits >> 20 & 7) + (bits >> 19 & 1);
    if rounded >= 15 << 3 { GREATEST } else { rounded as u8 }
}

/// Half of an unsigned E4M3 number (the top bit is ignored, NaN is zero).
fn half_scale(e4m3: u8) -> f32 {
    if e4m3 == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (e4m3 >> 3 & 15, e4m3 & 7);
    // Exponent 0 has no implicit one; bias 7, three bits of mantissa, and the half: 2^-11 in all.
    let (exponent, mantissa) = if exponent == 0 { (1, mantissa) } else { (exponent, mantissa | 8) };
    f32::from(mantissa) * f32::from_bits((u32::from(exponent) + 127 - 11) << 23)
}
