//! NVFP4: 64 elements in 36 bytes: four scales (unsigned E4M3), a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 each.
//!
//! Of each 16 elements, byte `i` holds element `i` low and element `i + 8` high. The table holds twice the values, and
//! the scale half of it.

use super::Format;
use super::iq4_nl::put_nibbles;
use super::mxfp4::VALUES;
use super::view::ViewVisitor;
use crate::TensorType;

const SUB_BLOCK: usize = 16;
const CODES: usize = 4;

pub(super) struct Nvfp4;

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

/// Half of an unsigned E4M3 number (the top bit does not count, NaN is zero).
fn half_scale(e4m3: u8) -> f32 {
    if e4m3 == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (e4m3 >> 3 & 15, e4m3 & 7);
    // Exponent 0 has no implicit one; bias 7, three bits of mantissa, and the half: 2^-11 in all.
    let (exponent, mantissa) = if exponent == 0 { (1, mantissa) } else { (exponent, mantissa | 8) };
    f32::from(mantissa) * f32::from_bits((u32::from(exponent) + 127 - 11) << 23)
}
