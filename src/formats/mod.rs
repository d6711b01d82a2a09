//! Tensor formats: encoding, decoding, and how products compute with them. Each format is one file and one row in the table
//! below, from which every match over types is generated.
//!
//! What `encode` writes is what llama.cpp's `quantize_row_*_ref` writes, bit for bit: the same operations on `f32`
//! in the same order, never fused. The scalar codecs are the reference; tests compare the versions in lanes with them.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "quantizing is narrowing; every cast is the reference's own"
)]
#![allow(clippy::needless_range_loop, reason = "vectors are walked side by side")]

mod blocks_of_32;
mod codebook;
mod encode;
mod float;
mod grid_search;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod scale_search;
mod six_bit_scales;
mod super_block;
mod ternary_search;
mod tq1_0;
mod tq2_0;
mod value_table;
pub(crate) mod view;

use std::marker::PhantomData;

use crate::TensorType;
use crate::simd::Isa;
use crate::simd::lanes::{Kernel, Lanes};
use view::ViewVisitor;

pub(crate) use blocks_of_32::{LEN as BLOCK, put_affine_block, put_block};
pub use encode::{encode, encode_with};
pub(crate) use float::F32;
pub(crate) use scale_search::weighted as weighted_steps;
pub(crate) use scale_search::{Search, TINY};
pub(crate) use super_block::{Affine, SUB_BLOCKS, Symmetric, search_affine};
pub(crate) use super_block::{
    put_weighted_scales, sum_of_squares, weighted_affine, weighted_search, weighted_symmetric,
};
pub(crate) use value_table::VALUES as IQ4_NL_VALUES;

/// Elements of a super-block of the K-quants.
pub const SUPER_BLOCK: usize = 256;

/// Encodes whole blocks: the numbers, the importance of a row's elements (`None` if it is not known), and the bytes to
/// write.
pub type Encode = fn(&[f32], Option<&[f32]>, &mut [u8]);

/// The encoder and decoder of a format; both work on whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// The format.
    pub ty: TensorType,
    /// The encoder, for formats that can be written. Importance is one weight of the squared error for each element of a row; the
    /// numbers are then rows of that length. Panics unless the numbers fill whole blocks (and rows, with importance) and `out` has
    /// their number of bytes.
    pub encode: Option<Encode>,
    /// Whether the encoder has a version in lanes.
    in_lanes: bool,
    /// The decoder. Panics unless the bytes are whole blocks and `out` has their number of elements.
    pub decode: fn(&[u8], &mut [f32]),
}

macro_rules! formats {
    (none: $($none:ident),*; $($ty:ident = $format:ty, $access:ident;)*) => {
        static CODECS: &[Codec] = &[$(Codec::$access::<$format>()),*];

        $(const _: () = assert!(<$format as Format>::TY as u32 == TensorType::$ty as u32, "a row names another type");)*

        /// Hands the view of `ty` to `visitor`.
        ///
        /// # Panics
        /// If there is no codec for `ty`.
        #[inline(always)]
        pub(crate) fn view<V: ViewVisitor>(ty: TensorType, visitor: V) -> V::Output {
            match ty {
                $(TensorType::$ty => <$format as Format>::view(visitor),)*
                $(TensorType::$none)|* => panic!("no codec for {ty}"),
            }
        }

        /// Decodes whole blocks of `ty`, plain numbers in vectors.
        ///
        /// # Panics
        /// If there is no codec for `ty`, or lengths do not agree.
        pub fn decode(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
            match ty {
                $(TensorType::$ty => <$format as Format>::decode(bytes, out),)*
                $(TensorType::$none)|* => panic!("no codec for {ty}"),
            }
        }

        /// Encodes whole blocks of `ty`, or rows whose elements have importance; in lanes, where the instruction set has vectors.
        ///
        /// # Panics
        /// If `ty` is not encoded in lanes.
        fn encode_lanes(isa: Isa, ty: TensorType, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
            match ty {
                $(TensorType::$ty => $access!($format, isa, x, importance, out),)*
                $(TensorType::$none)|* => panic!("no codec for {ty}"),
            }
        }
    };
}

macro_rules! lanes {
    ($format:ty, $isa:ident, $x:ident, $importance:ident, $out:ident) => {{
        let encode = EncodeLanes::<$format> { x: $x, importance: $importance, out: $out, format: PhantomData };
        $isa.run_or(encode, |all| encode_all::<$format>(all.x, all.importance, all.out))
    }};
}

macro_rules! written {
    ($format:ty, $isa:ident, $x:ident, $importance:ident, $out:ident) => {
        panic!("{} is not encoded in lanes", <$format as Format>::TY)
    };
}

macro_rules! read {
    ($format:ty, $isa:ident, $x:ident, $importance:ident, $out:ident) => {
        panic!("no encoder for {}", <$format as Format>::TY)
    };
}

// Every tensor type: its format, and whether it is encoded in `lanes`, `written` by the scalar encoder alone, or only `read`; or
// that there is no format for it.
formats! {
    none: I8, I16, I32, I64, F64;
    F32 = float::F32, written;
    F16 = float::F16, lanes;
    BF16 = float::BF16, lanes;
    Q4_0 = q4_0::Q4_0, lanes;
    Q4_1 = q4_1::Q4_1, lanes;
    Q5_0 = q5_0::Q5_0, lanes;
    Q5_1 = q5_1::Q5_1, lanes;
    Q8_0 = q8_0::Q8_0, lanes;
    Q8_1 = q8_1::Q8_1, read;
    Q2_K = q2_k::Q2_K, lanes;
    Q3_K = q3_k::Q3_K, lanes;
    Q4_K = q4_k::Q4_K, lanes;
    Q5_K = q5_k::Q5_K, lanes;
    Q6_K = q6_k::Q6_K, lanes;
    Q8_K = q8_k::Q8_K, read;
    IQ1_S = iq1_s::Iq1S, lanes;
    IQ1_M = iq1_m::Iq1M, lanes;
    IQ2_XXS = iq2_xxs::Iq2Xxs, lanes;
    IQ2_XS = iq2_xs::Iq2Xs, lanes;
    IQ2_S = iq2_s::Iq2S, lanes;
    IQ3_XXS = iq3_xxs::Iq3Xxs, lanes;
    IQ3_S = iq3_s::Iq3S, lanes;
    IQ4_NL = iq4_nl::Iq4Nl, lanes;
    IQ4_XS = iq4_xs::Iq4Xs, lanes;
    TQ1_0 = tq1_0::Tq1, lanes;
    TQ2_0 = tq2_0::Tq2, lanes;
    MXFP4 = mxfp4::Mxfp4, written;
    NVFP4 = nvfp4::Nvfp4, written;
    Q1_0 = q1_0::Q1, written;
    Q2_0 = q2_0::Q2, written;
}

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

/// One format: its type, how its blocks are read, and how products compute with them.
pub(crate) trait Format: Sized + 'static {
    const TY: TensorType;

    /// Reads one block.
    fn decode_block(block: &[u8], out: &mut [f32]);

    /// Reads whole blocks; formats with a faster way override this.
    fn decode(bytes: &[u8], out: &mut [f32]) {
        decode_all::<Self>(bytes, out);
    }

    /// Calls the method of `visitor` for the kind of view that products have of this format; to be marked
    /// `#[inline(always)]`.
    fn view<V: ViewVisitor>(visitor: V) -> V::Output;
}

/// A format that can be written.
pub(crate) trait Written: Format {
    /// Writes one block; `importance` is that of its elements, where it is known.
    fn encode_block(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]);

    /// Writes a row whose elements have importance; formats whose weights depend on the whole row override this.
    fn encode_row(x: &[f32], importance: &[f32], out: &mut [u8]) {
        encode_weighted_blocks::<Self>(x, importance, out, |x, importance, block| {
            Self::encode_block(x, Some(importance), block);
        });
    }
}

/// A format whose blocks can be written many at a time.
pub(crate) trait InLanes: Written {
    /// Writes whole blocks, or a row whose elements have importance: the same bytes as [`Written::encode_block`] and
    /// [`Written::encode_row`], in lanes; to be marked `#[inline(always)]`.
    fn encode_lanes<L: Lanes>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]);
}

impl Codec {
    /// The codec of a format that can only be read.
    const fn read<F: Format>() -> Self {
        Self { ty: F::TY, encode: None, in_lanes: false, decode: decode_all::<F> }
    }

    const fn written<F: Written>() -> Self {
        Self { ty: F::TY, encode: Some(encode_all::<F>), in_lanes: false, decode: decode_all::<F> }
    }

    const fn lanes<F: InLanes>() -> Self {
        Self { in_lanes: true, ..Self::written::<F>() }
    }
}

fn encode_all<F: Written>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    assert_eq!(F::TY.row_bytes(x.len()), out.len(), "{} blocks of {} elements", F::TY, x.len());
    let Some(importance) = importance else { return encode_blocks::<F>(x, out) };
    for (x, out) in rows::<F>(x, importance.len(), out) {
        F::encode_row(x, importance, out);
    }
}

/// Encodes whole blocks of a format in lanes.
struct EncodeLanes<'a, F> {
    x: &'a [f32],
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
    format: PhantomData<F>,
}

impl<F: InLanes> Kernel for EncodeLanes<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { x, importance, out, .. } = self;
        let Some(importance) = importance else { return F::encode_lanes(l, x, None, out) };
        for (x, out) in rows::<F>(x, importance.len(), out) {
            F::encode_lanes(l, x, Some(importance), out);
        }
    }
}

/// Rows of `len` elements, each with its part of `out`.
fn rows<'a, F: Format>(x: &'a [f32], len: usize, out: &'a mut [u8]) -> impl Iterator<Item = (&'a [f32], &'a mut [u8])> {
    assert!(x.len().is_multiple_of(len), "rows of {len} in {} elements", x.len());
    x.chunks_exact(len).zip(out.chunks_exact_mut(F::TY.row_bytes(len)))
}

fn encode_blocks<F: Written>(x: &[f32], out: &mut [u8]) {
    for (x, block) in x.chunks_exact(F::TY.block_len()).zip(out.chunks_exact_mut(F::TY.block_bytes())) {
        F::encode_block(x, None, block);
    }
}

/// Encodes the blocks of a row with `encode`, which gets the numbers, their importance and the block.
fn encode_weighted_blocks<F: Written>(
    x: &[f32],
    importance: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32], &[f32], &mut [u8]),
) {
    let len = F::TY.block_len();
    let blocks = x.chunks_exact(len).zip(importance.chunks_exact(len)).zip(out.chunks_exact_mut(F::TY.block_bytes()));
    for ((x, importance), block) in blocks {
        encode(x, importance, block);
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

/// Writes `value` as a half-precision number at `offset`, and returns the rounded value.
fn put_f16(block: &mut [u8], offset: usize, value: f32) -> f32 {
    let half = half::f16::from_f32(value);
    block[offset..offset + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// The nearest integer, ties to even, computed by adding 1.5 * 2^23 as the reference does. Outside of 22 bits it wraps likewise.
fn nearest(x: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0;
    ((x + ROUND).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}
