//! Tensor formats: how blocks of numbers become bytes and back. One file a format, one row in `CODECS`.
//!
//! What `encode` writes is what llama.cpp's `quantize_row_*_ref` writes, bit for bit: the same operations on `f32`
//! in the same order, never fused. This is the reference that faster versions are held against.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "quantizing is narrowing; every cast is the reference's own"
)]

mod float;
mod legacy;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4_k;
mod q5_k;
mod q6_k;
mod scale_search;
mod six_bit_scales;
mod super_block;

use crate::TensorType;
pub(crate) use legacy::{LEN as BLOCK, put_block};
pub(crate) use q2_k::Q2_K;
pub(crate) use q3_k::Q3_K;
pub(crate) use q4_k::Q4_K;
pub(crate) use q5_k::Q5_K;
pub(crate) use q6_k::Q6_K;
pub(crate) use scale_search::{Search, TINY};
pub(crate) use super_block::{Affine, SUB_BLOCKS, Symmetric, search_affine};

/// Elements of a super-block of the K-quants.
pub const SUPER_BLOCK: usize = 256;

/// A format's way to bytes and back; both work on whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// The format.
    pub ty: TensorType,
    /// From numbers to bytes. Panics unless the numbers fill whole blocks and the bytes are theirs.
    pub encode: fn(&[f32], &mut [u8]),
    /// From bytes to numbers. Panics unless the bytes are whole blocks and the numbers are theirs.
    pub decode: fn(&[u8], &mut [f32]),
}

static CODECS: &[Codec] = &[
    Codec::of::<float::F32>(),
    Codec::of::<float::F16>(),
    Codec::of::<float::BF16>(),
    Codec::of::<legacy::Q4_0>(),
    Codec::of::<legacy::Q4_1>(),
    Codec::of::<legacy::Q5_0>(),
    Codec::of::<legacy::Q5_1>(),
    Codec::of::<legacy::Q8_0>(),
    Codec::of::<q2_k::Q2_K>(),
    Codec::of::<q3_k::Q3_K>(),
    Codec::of::<q4_k::Q4_K>(),
    Codec::of::<q5_k::Q5_K>(),
    Codec::of::<q6_k::Q6_K>(),
    Codec::of::<mxfp4::Mxfp4>(),
];

/// The codec of `ty`, or `None` when this crate has none.
#[must_use]
pub fn codec(ty: TensorType) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.ty == ty)
}

/// Decodes blocks of `ty`.
///
/// # Panics
/// If there is no codec for `ty`, or lengths do not agree.
pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    let codec = codec(ty).unwrap_or_else(|| panic!("no codec for {ty}"));
    (codec.decode)(bytes, out);
}

/// One format: its type and what it does to one block.
trait Format {
    const TY: TensorType;

    /// Writes one block.
    fn encode_block(x: &[f32], block: &mut [u8]);

    /// Reads one block.
    fn decode_block(block: &[u8], out: &mut [f32]);
}

impl Codec {
    const fn of<F: Format>() -> Self {
        Self { ty: F::TY, encode: encode::<F>, decode: decode_all::<F> }
    }
}

fn encode<F: Format>(x: &[f32], out: &mut [u8]) {
    assert_eq!(F::TY.row_bytes(x.len()), out.len(), "{} blocks of {} elements", F::TY, x.len());
    for (x, block) in x.chunks_exact(F::TY.block_len()).zip(out.chunks_exact_mut(F::TY.block_bytes())) {
        F::encode_block(x, block);
    }
}

fn decode_all<F: Format>(bytes: &[u8], out: &mut [f32]) {
    assert_eq!(F::TY.row_bytes(out.len()), bytes.len(), "{} blocks of {} elements", F::TY, out.len());
    for (block, out) in bytes.chunks_exact(F::TY.block_bytes()).zip(out.chunks_exact_mut(F::TY.block_len())) {
        F::decode_block(block, out);
    }
}

/// Reads the half-precision number at `offset`.
fn f16_at(block: &[u8], offset: usize) -> f32 {
    half::f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}

/// Writes `value` as a half-precision number at `offset`, and returns what it has become.
fn put_f16(block: &mut [u8], offset: usize, value: f32) -> f32 {
    let half = half::f16::from_f32(value);
    block[offset..offset + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// The nearest integer, ties to even, by the reference's trick: far outside 22 bits it wraps as that does.
fn nearest(x: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0;
    ((x + ROUND).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}
