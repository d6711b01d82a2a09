//! Plain numbers: F32, F16 and BF16, rounded to nearest, ties to even.

#![allow(unsafe_code, reason = "vector loads and stores go through raw pointers")]

use half::{bf16, f16};

use super::encode::floats;
use super::view::{FloatFormat, VECTOR, ViewVisitor};
use super::{Format, InLanes, Written};
use crate::TensorType;
use crate::simd::Isa;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes, Sums, load_sums, store_sums};

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct BF16;

impl Format for F32 {
    const TY: TensorType = TensorType::F32;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.floats::<Self>()
    }
}

impl Written for F32 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        block.copy_from_slice(&x[0].to_le_bytes());
    }
}

impl Format for F16 {
    const TY: TensorType = TensorType::F16;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        out[0] = f16::from_le_bytes([block[0], block[1]]).to_f32();
    }

    fn decode(bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * 2);
        Isa::active().run(Halves { bytes, out });
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.floats::<Self>()
    }
}

impl Written for F16 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        block.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes());
    }
}

impl InLanes for F16 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
        floats::halves(l, x, out);
    }
}

impl Format for BF16 {
    const TY: TensorType = TensorType::BF16;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
    }

    fn decode(bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * 2);
        for (x, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *x = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
        }
    }

    #[inline(always)]
    fn view<V: ViewVisitor>(visitor: V) -> V::Output {
        visitor.floats::<Self>()
    }
}

impl Written for BF16 {
    fn encode_block(x: &[f32], _: Option<&[f32]>, block: &mut [u8]) {
        block.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes());
    }
}

impl InLanes for BF16 {
    #[inline(always)]
    fn encode_lanes<L: Lanes>(_: L, x: &[f32], _: Option<&[f32]>, out: &mut [u8]) {
        floats::bf16s(x, out);
    }
}

/// Half-precision numbers to be decoded.
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

macro_rules! float_format {
    ($($name:ident, $bytes:literal bytes, $load:ident;)*) => {$(
        impl FloatFormat for $name {
            const LEN: usize = LANES;
            type Wide = F32;

            #[inline(always)]
            unsafe fn widen<L: Lanes>(l: L, from: *const u8, to: *mut u8) {
                // SAFETY: the caller vouches for the numbers; loads and stores need no alignment.
                unsafe { l.store(to.cast(), l.$load(from.cast())) }
            }

            #[inline(always)]
            unsafe fn accumulate<L: Lanes, const R: usize, const T: usize>(
                l: L,
                w: [*const u8; R],
                x: [*const u8; T],
                vectors: usize,
                waiting: &mut Sums<R, T>,
            ) {
                let mut sums = load_sums(l, waiting);
                for k in 0..vectors {
                    let mut weights = [l.splat(0.0); R];
                    for r in 0..R {
                        // SAFETY: the caller vouches for `vectors` vectors.
                        weights[r] = unsafe { l.$load(w[r].add(k * LANES * $bytes).cast()) };
                    }
                    for t in 0..T {
                        // SAFETY: as above.
                        let x = unsafe { l.load(x[t].add(k * VECTOR).cast()) };
                        for r in 0..R {
                            sums[t][r] = l.mul_add(weights[r], x, sums[t][r]);
                        }
                    }
                }
                store_sums(l, &sums, waiting);
            }
        }
    )*};
}

float_format! {
    F32, 4 bytes, load;
    F16, 2 bytes, load_half;
}

impl FloatFormat for BF16 {
    const ROUNDED_INPUT: bool = true;
    const LEN: usize = 2 * LANES;
    type Wide = Self;

    #[inline(always)]
    unsafe fn widen<L: Lanes>(l: L, from: *const u8, to: *mut u8) {
        // SAFETY: the caller vouches for the numbers; loads and stores need no alignment.
        unsafe { l.store_int(to.cast(), l.load_int(from.cast())) }
    }

    #[inline(always)]
    unsafe fn accumulate<L: Lanes, const R: usize, const T: usize>(
        l: L,
        w: [*const u8; R],
        x: [*const u8; T],
        vectors: usize,
        sums: &mut Sums<R, T>,
    ) {
        // SAFETY: the same contract.
        unsafe { l.accumulate_bf16(w, x, vectors, sums) };
    }
}

#[cfg(test)]
mod tests {
    use crate::TensorType;
    use crate::formats::{codec, decode};

    #[test]
    fn rounding_is_to_even() {
        for (ty, x, bits) in [
            (TensorType::F16, 1.0 + 1.0 / 2048.0, 0x3c00_u16),
            (TensorType::F16, 1.0 + 3.0 / 2048.0, 0x3c02),
            (TensorType::F16, 65520.0, 0x7c00),
            (TensorType::F16, -0.0, 0x8000),
            (TensorType::BF16, 1.0 + 1.0 / 256.0, 0x3f80),
            (TensorType::BF16, 1.0 + 3.0 / 256.0, 0x3f82),
        ] {
            let mut out = [0; 2];
            (codec(ty).and_then(|codec| codec.encode).expect("encoder"))(&[x], None, &mut out);
            assert_eq!(u16::from_le_bytes(out), bits, "{ty} {x}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_codecs() {
        let bytes: Vec<u8> = (0..=u16::MAX).chain(0..5).flat_map(u16::to_le_bytes).collect();
        for ty in [TensorType::F16, TensorType::BF16] {
            let (mut fast, mut plain) = (vec![0.0; bytes.len() / 2], vec![0.0; bytes.len() / 2]);
            decode(ty, &bytes, &mut fast);
            (codec(ty).expect("codec").decode)(&bytes, &mut plain);
            for (i, (a, b)) in fast.iter().zip(&plain).enumerate() {
                assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{ty} {i:#x}: {a} {b}");
            }
        }
    }
}
