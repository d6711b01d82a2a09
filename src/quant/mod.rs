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

mod codebook;
mod float;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod legacy;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_1;
mod q8_k;
mod scale_search;
mod six_bit_scales;
mod super_block;
mod tq1_0;
mod tq2_0;

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

/// Encodes whole blocks: numbers, the importance of each (`None` when nothing is known of it), the bytes to write.
pub type Encode = fn(&[f32], Option<&[f32]>, &mut [u8]);

/// A format's way to bytes and back; both work on whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// The format.
    pub ty: TensorType,
    /// From numbers to bytes, for the formats that can be written. Importance is one weight per number: how much its
    /// squared error counts. Panics unless the numbers fill whole blocks, the bytes are theirs, and weights are as many
    /// as numbers.
    pub encode: Option<Encode>,
    /// From bytes to numbers. Panics unless the bytes are whole blocks and the numbers are theirs.
    pub decode: fn(&[u8], &mut [f32]),
}

static CODECS: &[Codec] = &[
    Codec::written::<float::F32>(),
    Codec::written::<float::F16>(),
    Codec::written::<float::BF16>(),
    Codec::written::<legacy::Q4_0>(),
    Codec::written::<legacy::Q4_1>(),
    Codec::written::<legacy::Q5_0>(),
    Codec::written::<legacy::Q5_1>(),
    Codec::written::<legacy::Q8_0>(),
    Codec::read::<q8_1::Q8_1>(),
    Codec::written::<q2_k::Q2_K>(),
    Codec::written::<q3_k::Q3_K>(),
    Codec::written::<q4_k::Q4_K>(),
    Codec::written::<q5_k::Q5_K>(),
    Codec::written::<q6_k::Q6_K>(),
    Codec::read::<q8_k::Q8_K>(),
    Codec::read::<iq1_s::Iq1S>(),
    Codec::read::<iq1_m::Iq1M>(),
    Codec::read::<iq2_xxs::Iq2Xxs>(),
    Codec::read::<iq2_xs::Iq2Xs>(),
    Codec::read::<iq2_s::Iq2S>(),
    Codec::read::<iq3_xxs::Iq3Xxs>(),
    Codec::read::<iq3_s::Iq3S>(),
    Codec::read::<iq4_nl::Iq4Nl>(),
    Codec::read::<iq4_xs::Iq4Xs>(),
    Codec::read::<tq1_0::Tq1>(),
    Codec::read::<tq2_0::Tq2>(),
    Codec::written::<mxfp4::Mxfp4>(),
    Codec::read::<nvfp4::Nvfp4>(),
    Codec::read::<q1_0::Q1>(),
    Codec::read::<q2_0::Q2>(),
];

/// All codecs.
#[must_use]
pub fn codecs() -> &'static [Codec] {
    CODECS
}

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

/// One format: its type and how one of its blocks is read.
trait Format {
    const TY: TensorType;

    /// Reads one block.
    fn decode_block(block: &[u8], out: &mut [f32]);
}

/// A format that can be written.
trait Written: Format {
    /// Writes one block. `importance`, if given, is one weight per number.
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]);
}

impl Codec {
    /// The codec of a format that can only be read.
    const fn read<F: Format>() -> Self {
        Self { ty: F::TY, encode: None, decode: decode_all::<F> }
    }

    const fn written<F: Written>() -> Self {
        Self { ty: F::TY, encode: Some(encode_all::<F>), decode: decode_all::<F> }
    }
}

fn encode_all<F: Written>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert_eq!(F::TY.row_bytes(x.len()), out.len(), "{} blocks of {} elements", F::TY, x.len());
    let len = F::TY.block_len();
    if let Some(weights) = importance {
        assert_eq!(weights.len(), x.len(), "importance of {} elements", x.len());
    }
    for (i, (x, block)) in x.chunks_exact(len).zip(out.chunks_exact_mut(F::TY.block_bytes())).enumerate() {
        F::encode_block(x, importance.map(|weights| &weights[i * len..][..len]), block);
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

/// Reads the word of 16 bits at `offset`.
fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([block[offset], block[offset + 1]])
}

/// Reads the word of 32 bits at `offset`.
fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(block, offset)) | u32::from(u16_at(block, offset + 2)) << 16
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
