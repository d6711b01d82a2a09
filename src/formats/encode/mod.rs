//! Encoding of tensor formats, in the fastest version that this CPU has.
//!
//! A sub-block's search is a chain of operations on floats whose order decides every bit. So the chain is left as it
//! is, and sixteen sub-blocks go through it side by side, one a lane. The scalar encoders are the oracle,
//! and do what lanes cannot: sub-blocks whose stored scale is zero keep the codes that the search came upon, and
//! spans so small that their inverse overflows leave the range in which rounding by addition works.

pub(super) mod affine;
pub(super) mod blocks;
pub(super) mod floats;
pub(super) mod refined;
mod super_blocks;
pub(super) mod symmetric;
pub(super) mod weighted;

use crate::TensorType;
use crate::formats;
use crate::simd::Isa;
use crate::simd::lanes::{Kernel, Lanes};

/// Encodes whole blocks of `ty`. `importance`, if given, is one weight for each element of a row: how much its squared
/// error counts; `x` then is one or more rows of that length.
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
    let in_lanes = formats::codec(ty).is_some_and(|codec| codec.in_lanes);
    if isa == Isa::Scalar || !in_lanes {
        encode_scalar(ty, x, importance, out);
    } else {
        isa.run(Encode { ty, x, importance, out });
    }
}

/// Encodes by the reference.
#[cold]
#[inline(never)]
pub(super) fn encode_scalar(ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let encode = formats::codec(ty).and_then(|codec| codec.encode).unwrap_or_else(|| panic!("no encoder for {ty}"));
    encode(x, importance, out);
}

struct Encode<'a> {
    ty: TensorType,
    x: &'a [f32],
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
}

impl Kernel for Encode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        formats::encode_lanes(l, self.ty, self.x, self.importance, self.out);
    }
}

#[cfg(test)]
mod tests;
