//! F16 and BF16: sixteen numbers at a time.

use half::bf16;

use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Encodes F16.
#[inline(always)]
pub(in crate::formats) fn halves<L: Lanes>(l: L, x: &[f32], out: &mut [u8]) {
    let (x, rest) = x.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<{ 2 * LANES }>();
    let put = |x: &[f32; LANES], out: &mut [u8]| {
        for (bits, out) in l.to_halves(l.array(x)).into_iter().zip(out.as_chunks_mut::<2>().0) {
            *out = bits.to_le_bytes();
        }
    };
    for (x, out) in x.iter().zip(out) {
        put(x, out);
    }
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    put(&padded, out_rest);
}

/// Encodes BF16.
#[inline(always)]
pub(in crate::formats) fn bf16s(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.iter().zip(out.as_chunks_mut::<2>().0) {
        *out = bf16::from_f32(*x).to_le_bytes();
    }
}
