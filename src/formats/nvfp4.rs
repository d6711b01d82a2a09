//! NVFP4: 64 elements in 36 bytes: four scales (unsigned E4M3), a sign and one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 each.
//!
//! Of each 16 elements, byte `i` holds element `i` low and element `i + 8` high. The table holds twice the values, and
//! the scale half of it.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::mxfp4::{CODES as BIASED, VALUES, ZERO, nearest_code};
use super::tq2_0::greatest_magnitude;
use super::value_table::put_nibbles;
use super::view::{LongBlockFormat, ScalesOf16, ViewVisitor};
use super::{Format, Written};
use crate::TensorType;
use crate::simd::lanes::Lanes;

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
        visitor.long_blocks::<Self>()
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

/// What [`half_scale`] would be for NaN.
const NAN: f32 = 240.0;

/// Half of an unsigned E4M3 number. As in ggml, the top bit is ignored, and NaN is zero where that bit is not set.
fn half_scale(e4m3: u8) -> f32 {
    if e4m3 == 0x7f {
        return 0.0;
    }
    let (exponent, mantissa) = (e4m3 >> 3 & 15, e4m3 & 7);
    // Exponent 0 has no implicit one; bias 7, three bits of mantissa, and the half: 2^-11 in all.
    let (exponent, mantissa) = if exponent == 0 { (1, mantissa) } else { (exponent, mantissa | 8) };
    f32::from(mantissa) * f32::from_bits((u32::from(exponent) + 127 - 11) << 23)
}

impl LongBlockFormat for Nvfp4 {
    type Shape = ScalesOf16<ZERO>;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8], _: usize) -> L::Int {
        // SAFETY: the slice has 32 bytes.
        let nibbles = unsafe { l.nibbles_of_eights(block[CODES..CODES + 32].as_ptr()) };
        l.lookup(&BIASED, nibbles)
    }

    #[inline(always)]
    fn factors<L: Lanes>(l: L, words: L::Int) -> [L::Float; 4] {
        // Exponent and mantissa are at their place in half precision if the byte is shifted right by one below its top
        // bit, which becomes the sign. The bias is 15 there and 7 here, and the factor is half of the scale: 2^7 in all.
        let halves = |high_bytes: L::Int| {
            let [sign, rest] = [0x8000_8000_u32, 0x3f80_3f80].map(|bits| l.splat_int(bits.cast_signed()));
            l.or_int(l.and_int(high_bytes, sign), l.and_int(l.shr_halves::<1, 1>(high_bytes), rest))
        };
        let (even, odd) = (halves(l.shl_int::<8>(words)), halves(words));
        // NaN without a sign is zero.
        let (two_to_7, nan) = (l.splat(128.0), l.splat(NAN));
        [l.halves_at::<0>(even), l.halves_at::<0>(odd), l.halves_at::<16>(even), l.halves_at::<16>(odd)].map(|scale| {
            let scale = l.mul(scale, two_to_7);
            l.select_lt(scale, nan, l.abs(scale), l.splat(0.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Nvfp4, half_scale};
    use crate::formats::view::LongBlockFormat;
    use crate::simd::lanes::{Kernel, Lanes};
    use crate::simd::{Isa, LANES};

    /// The factors of words of four scales each.
    struct Factors([i32; LANES]);

    impl Kernel for Factors {
        type Output = [[f32; LANES]; 4];

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            // SAFETY: the array holds 16 integers.
            Nvfp4::factors(l, unsafe { l.load_int(self.0.as_ptr()) }).map(|factors| l.to_array(factors))
        }
    }

    #[test]
    fn every_scale_is_decoded_on_every_cpu() {
        let bytes: Vec<u8> = (0..=255).collect();
        for isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            for (words, bytes) in bytes.as_chunks::<4>().0.chunks(LANES).zip(bytes.chunks(4 * LANES)) {
                let factors = isa.run(Factors(std::array::from_fn(|i| i32::from_le_bytes(words[i]))));
                for (i, &byte) in bytes.iter().enumerate() {
                    assert_eq!(factors[i % 4][i / 4].to_bits(), half_scale(byte).to_bits(), "{isa}: {byte:#x}");
                }
            }
        }
    }
}
