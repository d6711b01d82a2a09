//! Decoding of tensor formats, in the fastest version that this CPU has: plain numbers in vectors, blocks as their
//! formats say.

use super::Isa;
use super::lanes::{Kernel, LANES, Lanes};
use crate::TensorType;
use crate::quant;

/// Decodes whole blocks of `ty`.
///
/// # Panics
/// If there is no codec for `ty`, or lengths do not agree.
pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        TensorType::F16 => {
            assert_eq!(bytes.len(), out.len() * 2);
            Isa::active().run(Halves { bytes, out });
        }
        TensorType::BF16 => {
            assert_eq!(bytes.len(), out.len() * 2);
            for (x, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => quant::decode(ty, bytes, out),
    }
}

struct Halves<'a> {
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Halves<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let bits = self.bytes.as_chunks::<2>().0;
        let (whole, tail) = bits.as_chunks::<LANES>();
        let (out, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (bits, out) in whole.iter().zip(out) {
            *out = l.to_array(l.halves(&bits.map(u16::from_le_bytes)));
        }
        for (bits, out) in tail.iter().zip(out_tail) {
            *out = l.half(u16::from_le_bytes(*bits));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::decode;
    use crate::TensorType;
    use crate::quant;

    #[test]
    fn numbers_are_those_of_the_codecs() {
        let bytes: Vec<u8> = (0..=u16::MAX).chain(0..5).flat_map(u16::to_le_bytes).collect();
        for ty in [TensorType::F16, TensorType::BF16] {
            let (mut fast, mut plain) = (vec![0.0; bytes.len() / 2], vec![0.0; bytes.len() / 2]);
            decode(ty, &bytes, &mut fast);
            quant::decode(ty, &bytes, &mut plain);
            for (i, (a, b)) in fast.iter().zip(&plain).enumerate() {
                assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{ty} {i:#x}: {a} {b}");
            }
        }
    }
}
