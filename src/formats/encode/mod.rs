//! Encoding of tensor formats with the fastest instruction set of this CPU.
//!
//! The search in a sub-block is a chain of float operations whose order decides every bit. The chain is therefore kept as it
//! is, and sixteen sub-blocks go through it side by side, one in each lane. The scalar encoders are the reference. They also
//! encode what lanes cannot: sub-blocks whose stored scale is zero (they keep the codes of the search), and blocks with a span so
//! small that its inverse overflows (rounding by addition does not work there).

pub(super) mod affine;
pub(super) mod blocks;
pub(super) mod floats;
pub(super) mod grid;
mod positive;
pub(super) mod refined;
mod super_blocks;
pub(super) mod symmetric;
pub(super) mod ternary;
pub(super) mod ternary_grid;
pub(super) mod values;
pub(super) mod weighted;

use crate::TensorType;
use crate::formats;
use crate::simd::Isa;

/// Encodes whole blocks of `ty`. `importance`, if given, is one weight of the squared error for each element of a row; `x` is
/// then one or more rows of that length.
///
/// # Panics
/// If there is no encoder for `ty`, or lengths do not agree.
pub fn encode(ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_with(Isa::active(), ty, x, importance, out);
}

/// As [`encode`], with a given instruction set; [`Isa::Scalar`] is the reference.
///
/// # Panics
/// As [`encode`].
pub fn encode_with(isa: Isa, ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert_eq!(ty.row_bytes(x.len()), out.len(), "{ty} blocks of {} elements", x.len());
    if formats::codec(ty).is_some_and(|codec| codec.in_lanes) {
        formats::encode_lanes(isa, ty, x, importance, out);
    } else {
        encode_scalar(ty, x, importance, out);
    }
}

/// Encodes with the scalar encoder.
#[cold]
#[inline(never)]
pub(super) fn encode_scalar(ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let encode = formats::codec(ty).and_then(|codec| codec.encode).unwrap_or_else(|| panic!("no encoder for {ty}"));
    encode(x, importance, out);
}

#[cfg(test)]
mod tests;
