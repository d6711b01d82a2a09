//! Encoding of tensor formats, in the fastest version that this CPU has.
//!
//! A sub-block's search is a chain of operations on floats whose order decides every bit. So the chain is left as it
//! is, and sixteen sub-blocks go through it side by side, one a lane. The scalar codecs of [`quant`] are the oracle,
//! and do what lanes cannot: sub-blocks whose stored scale is zero keep the codes that the search came upon, and
//! spans so small that their inverse overflows leave the range in which rounding by addition works.

mod affine;
mod blocks;
mod floats;
mod refined;
mod super_blocks;
mod symmetric;

use super::Isa;
use super::lanes::{Kernel, Lanes};
use crate::TensorType;
use crate::quant::{self, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};

/// Encodes whole blocks of `ty`. `importance`, if given, is one weight per number: how much its squared error counts.
///
/// # Panics
/// If there is no encoder for `ty`, or lengths do not agree.
pub fn encode(ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_with(Isa::active(), ty, x, importance, out);
}

/// As [`encode`], for an instruction set: [`Isa::Scalar`] is the reference itself.
///
/// # Panics
/// As [`encode`].
pub fn encode_with(isa: Isa, ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert_eq!(ty.row_bytes(x.len()), out.len(), "{ty} blocks of {} elements", x.len());
    // The searches in lanes know no importance.
    if isa == Isa::Scalar || importance.is_some() {
        encode_scalar(ty, x, importance, out);
    } else {
        isa.run(Encode { ty, x, out });
    }
}

/// Encodes by the reference.
#[cold]
#[inline(never)]
fn encode_scalar(ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let encode = quant::codec(ty).and_then(|codec| codec.encode).unwrap_or_else(|| panic!("no encoder for {ty}"));
    encode(x, importance, out);
}

struct Encode<'a> {
    ty: TensorType,
    x: &'a [f32],
    out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        use TensorType as T;
        let Self { ty, x, out } = self;
        match ty {
            T::F16 => floats::halves(l, x, out),
            T::BF16 => floats::bf16s(x, out),
            T::Q8_0 => blocks::whole_bytes(l, x, out),
            T::Q4_0 => blocks::symmetric::<L, false>(l, x, out),
            T::Q5_0 => blocks::symmetric::<L, true>(l, x, out),
            T::Q4_1 => blocks::affine::<L, false>(l, x, out),
            T::Q5_1 => blocks::affine::<L, true>(l, x, out),
            T::Q2_K => affine::encode::<L, Q2_K, 16>(l, ty, x, out),
            T::Q4_K => affine::encode::<L, Q4_K, 32>(l, ty, x, out),
            T::Q5_K => affine::encode::<L, Q5_K, 32>(l, ty, x, out),
            T::Q3_K => refined::encode::<L, Q3_K>(l, ty, x, out),
            T::Q6_K => symmetric::encode::<L, Q6_K>(l, ty, x, out),
            _ => encode_scalar(ty, x, None, out),
        }
    }
}

#[cfg(test)]
mod tests;
