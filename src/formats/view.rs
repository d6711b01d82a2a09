//! How products compute with the blocks of a format: its view, which is one of five kinds.
//!
//! Quantized formats are given as unsigned byte codes in vectors, integer scales, and float factors.
//! In every super-block format an element is `d * scale * (code - zero) - dmin * min`, in every block format
//! `d * (code - zero) + m`, in every format of long blocks `d * (code - zero)`. The products over codes, scales, mins and zeros are exact in integers; only the
//! per-block sums are converted to `f32`.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::Format;
use crate::simd::LANES;
use crate::simd::integers::{NO_HIGH_BYTE, Spread};
use crate::simd::lanes::{Lanes, Sums};

/// Sub-blocks of 16 elements in a super-block.
pub(crate) const SUBS: usize = 16;

/// An operation on a format, by the kind of its view.
pub(crate) trait ViewVisitor: Sized {
    /// The result.
    type Output;

    /// Blocks of 256 elements with integer scales for each 16 or 32 of them.
    fn super_blocks<F: SuperBlockFormat>(self) -> Self::Output;

    /// Blocks of 32 elements with one scale.
    fn blocks<F: BlockFormat>(self) -> Self::Output;

    /// Blocks of one or several parts of 64 elements, with one scale, or with one for each 16 elements.
    fn long_blocks<F: LongBlockFormat>(self) -> Self::Output;

    /// Plain numbers.
    fn floats<F: FloatFormat>(self) -> Self::Output;

    /// A format without a view of its own, whose rows are decoded to floats.
    fn decoded<F: Format>(self) -> Self::Output;
}

/// Bytes of a vector of floats.
pub(crate) const VECTOR: usize = 4 * LANES;

/// A type of floats.
pub(crate) trait FloatFormat: Format {
    /// Bytes of a number.
    const BYTES: usize = Self::TY.block_bytes();
    /// Whether the input is rounded to bf16, as the CPU's bf16 products need it.
    const ROUNDED_INPUT: bool = false;
    /// Numbers of a vector.
    const LEN: usize;
    /// The format of slabs: vectors of [`VECTOR`] bytes with the same numbers.
    type Wide: FloatFormat;

    /// Converts a vector to the format of slabs.
    ///
    /// # Safety
    /// `from` points to [`Self::LEN`] numbers, `to` to room for [`VECTOR`] bytes.
    unsafe fn widen<L: Lanes>(l: L, from: *const u8, to: *mut u8);

    /// Adds the products of `vectors` vectors, from `w` and `x` on.
    ///
    /// # Safety
    /// Every pointer must be to that many vectors.
    unsafe fn accumulate<L: Lanes, const R: usize, const T: usize>(
        l: L,
        w: [*const u8; R],
        x: [*const u8; T],
        vectors: usize,
        sums: &mut Sums<R, T>,
    );
}

/// The integers of a super-block besides its codes, one for each sub-block.
#[derive(Clone, Copy)]
pub(crate) struct SubScales {
    /// Sixteen, or eight and the mins.
    pub(crate) scales: [i16; SUBS],
    /// Factors of the sums of the input's codes: mins, or the contribution of zero codes (`-zero * scale`). Sixteen, or
    /// eight and eight zeros.
    pub(crate) offsets: [i16; SUBS],
}

/// What the codes and scales of a super-block are once they are decoded. Formats of one shape share the kernel that multiplies
/// them with many tokens.
pub(crate) trait SuperBlockShape: 'static {
    /// Whether elements have mins.
    const MINS: bool = false;
    /// The code that stands for zero. Formats with mins have 0 here.
    const ZERO: i16;
    /// Elements that share a scale: 16 or 32.
    const SUB_LEN: usize = 16;
    /// The greatest code: below 128 unless codes have eight bits, and below 64 if `WIDE_SUMS` is false.
    const GREATEST: usize;
    /// Whether the sum of a sub-block's products may exceed 16 bits.
    const WIDE_SUMS: bool = false;
    /// The run of 32 elements that each half of each vector of codes holds.
    const HALVES: [[usize; 2]; 4] = [[0, 1], [2, 3], [4, 5], [6, 7]];
}

/// Eight sub-blocks with scales and mins.
pub(crate) struct MinsOf32;

impl SuperBlockShape for MinsOf32 {
    const MINS: bool = true;
    const ZERO: i16 = 0;
    const GREATEST: usize = 31;
    const SUB_LEN: usize = 32;
    const HALVES: [[usize; 2]; 4] = [[0, 2], [1, 3], [4, 6], [5, 7]];
}

/// Sixteen sub-blocks with scales and mins.
pub(crate) struct MinsOf16;

impl SuperBlockShape for MinsOf16 {
    const MINS: bool = true;
    const ZERO: i16 = 0;
    const GREATEST: usize = 3;
}

/// Sixteen sub-blocks with scales; their codes have a zero point.
pub(crate) struct Centered<const ZERO: i16>;

impl<const ZERO: i16> SuperBlockShape for Centered<ZERO> {
    const ZERO: i16 = ZERO;
    const GREATEST: usize = greatest(ZERO);
}

/// Likewise, with codes of seven bits, or of eight.
pub(crate) struct WideCentered<const ZERO: i16>;

impl<const ZERO: i16> SuperBlockShape for WideCentered<ZERO> {
    const ZERO: i16 = ZERO;
    const GREATEST: usize = greatest(ZERO);
    const WIDE_SUMS: bool = true;
}

/// The greatest code that there may be in formats whose zero has the code `zero`. Codes of two bits are above -2, others as far below
/// zero as above it, or by one farther.
const fn greatest(zero: i16) -> usize {
    if zero == 1 { 3 } else { 2 * zero as usize - 1 }
}

/// A format of super-blocks of 256 elements.
pub(crate) trait SuperBlockFormat: Format {
    /// Bytes of a block.
    const BYTES: usize = Self::TY.block_bytes();
    /// The codes and scales as numbers.
    type Shape: SuperBlockShape;
    /// The bias of stored scales.
    const SCALE_BIAS: i16;
    /// A power of two by which the factor `d` is multiplied.
    const UNIT: f32 = 1.0;
    /// Offset of the factor `d`, in half precision; `dmin` follows it in formats with mins. In others, the block begins or
    /// ends with `d`.
    const FACTORS: usize;
    /// Which scale belongs to each word of each vector.
    const SPREAD: [Spread; 4] = spread(Self::Shape::HALVES, Self::Shape::SUB_LEN);

    /// The codes, in vectors of 64.
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4];

    /// A byte for each of sixteen scales, or for each of eight scales and eight mins.
    fn scale_bytes<L: Lanes>(l: L, block: &[u8]) -> [u64; 2];

    /// A byte for each of sixteen mins.
    #[inline(always)]
    fn min_bytes(_block: &[u8]) -> [u64; 2] {
        [0; 2]
    }

    /// The mins of sixteen blocks with sixteen sub-blocks, a block in each lane, four mins in each vector.
    ///
    /// # Safety
    /// Blocks must be whole.
    #[inline(always)]
    unsafe fn mins_of<L: Lanes>(l: L, _blocks: &[*const u8; LANES]) -> [L::Int; 4] {
        [l.splat_int(0); 4]
    }

    /// Scales, and mins or zeros.
    #[inline(always)]
    fn scales<L: Lanes>(l: L, block: &[u8]) -> SubScales {
        let mut scales = l.widen(Self::scale_bytes(l, block));
        for scale in &mut scales {
            *scale -= Self::SCALE_BIAS;
        }
        let mut offsets = [0; SUBS];
        if Self::Shape::SUB_LEN == 32 {
            offsets[..8].copy_from_slice(&scales[8..]);
        } else if Self::Shape::MINS {
            offsets = l.widen(Self::min_bytes(block));
        } else {
            for (offset, scale) in offsets.iter_mut().zip(scales) {
                *offset = -Self::Shape::ZERO * scale;
            }
        }
        SubScales { scales, offsets }
    }

    /// The factors `d` and `dmin` of sixteen blocks.
    ///
    /// # Safety
    /// Blocks must be whole.
    #[inline(always)]
    unsafe fn factors<L: Lanes>(l: L, blocks: &[*const u8; LANES]) -> [L::Float; 2] {
        // SAFETY: two factors lie side by side, and before a last one or behind a first one are other bytes of the block.
        unsafe {
            if Self::Shape::MINS {
                let both = l.words_at(&offset(blocks, Self::FACTORS));
                [l.halves_at::<0>(both), l.halves_at::<16>(both)]
            } else {
                let d = if Self::FACTORS == 0 {
                    l.halves_at::<0>(l.words_at(blocks))
                } else {
                    l.halves_at::<16>(l.words_at(&offset(blocks, Self::FACTORS - 2)))
                };
                [if Self::UNIT == 1.0 { d } else { l.mul(d, l.splat(Self::UNIT)) }, l.splat(0.0)]
            }
        }
    }
}

/// What the codes of a block are once they are decoded, as [`SuperBlockShape`].
pub(crate) trait BlockShape: 'static {
    /// The code that stands for zero.
    const ZERO: i16;
    /// The greatest code.
    const GREATEST: usize;
    /// Whether blocks have an offset.
    const OFFSET: bool;
}

/// Codes with a zero point.
pub(crate) struct CenteredBlock<const ZERO: i16>;

impl<const ZERO: i16> BlockShape for CenteredBlock<ZERO> {
    const ZERO: i16 = ZERO;
    const GREATEST: usize = greatest(ZERO);
    const OFFSET: bool = false;
}

/// Codes above an offset.
pub(crate) struct OffsetBlock;

impl BlockShape for OffsetBlock {
    const ZERO: i16 = 0;
    const GREATEST: usize = 31;
    const OFFSET: bool = true;
}

/// A format of blocks of 32 elements.
pub(crate) trait BlockFormat: Format {
    /// Bytes of a block.
    const BYTES: usize = Self::TY.block_bytes();
    /// The codes as numbers.
    type Shape: BlockShape;

    /// Blocks that are multiplied at once: two in one vector, or four in two vectors.
    const RUN: usize;

    /// The codes of two blocks.
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int;

    /// The codes of two blocks, or the first and the second halves of the codes of four blocks.
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2];

    /// The factors `d` of sixteen blocks, and their offsets `m`, from the first four bytes of each.
    #[inline(always)]
    fn factors<L: Lanes>(l: L, words: L::Int) -> [L::Float; 2] {
        [l.halves_at::<0>(words), if Self::Shape::OFFSET { l.halves_at::<16>(words) } else { l.splat(0.0) }]
    }
}

/// What the codes and scales of a long block are once they are decoded, as [`SuperBlockShape`].
pub(crate) trait LongBlockShape: 'static {
    /// The code that stands for zero.
    const ZERO: i16;
    /// The greatest code, of six bits at most.
    const GREATEST: usize;
    /// Whether each 16 elements have a scale of their own. Otherwise the block has one.
    const SCALES_OF_16: bool;
}

/// Codes with a zero point and one scale.
pub(crate) struct OneScale<const ZERO: i16>;

impl<const ZERO: i16> LongBlockShape for OneScale<ZERO> {
    const ZERO: i16 = ZERO;
    const GREATEST: usize = greatest(ZERO);
    const SCALES_OF_16: bool = false;
}

/// Codes with a zero point and a scale for each 16 of them.
pub(crate) struct ScalesOf16<const ZERO: i16>;

impl<const ZERO: i16> LongBlockShape for ScalesOf16<ZERO> {
    const ZERO: i16 = ZERO;
    const GREATEST: usize = greatest(ZERO);
    const SCALES_OF_16: bool = true;
}

/// Elements of a part of a long block.
pub(crate) const PART: usize = 64;
/// Parts of a panel of long blocks: the most that a block has.
pub(crate) const PANEL_PARTS: usize = 2;

/// A format of blocks of 64 or 128 elements.
pub(crate) trait LongBlockFormat: Format {
    /// Bytes of a block.
    const BYTES: usize = Self::TY.block_bytes();
    /// Parts of [`PART`] elements of a block: 1 or 2.
    const PARTS: usize = Self::TY.block_len() / PART;
    /// The codes and scales as numbers.
    type Shape: LongBlockShape;

    /// The codes of part `part`, in the order of elements.
    fn codes<L: Lanes>(l: L, block: &[u8], part: usize) -> L::Int;

    /// The factors of each 16 elements of sixteen blocks, from the first four bytes of each block. All are the same where
    /// the block has one scale.
    #[inline(always)]
    fn factors<L: Lanes>(l: L, words: L::Int) -> [L::Float; 4] {
        [l.halves_at::<0>(words); 4]
    }
}

/// The pointers advanced by `bytes`.
#[inline(always)]
fn offset(places: &[*const u8; LANES], bytes: usize) -> [*const u8; LANES] {
    let mut places = *places;
    for place in &mut places {
        *place = place.wrapping_add(bytes);
    }
    places
}

const fn spread(halves: [[usize; 2]; 4], sub_len: usize) -> [Spread; 4] {
    let mut spread = [[0; 32]; 4];
    let mut i = 0;
    while i < 128 {
        let (vector, word) = (i / 32, i % 32);
        let element = 32 * halves[vector][word / 16] + 2 * (word % 16);
        spread[vector][word] = NO_HIGH_BYTE | (element / sub_len) as u16;
        i += 1;
    }
    spread
}

/// 256 bytes as vectors.
#[inline(always)]
pub(super) fn vectors<L: Lanes>(l: L, codes: &[u64; 32]) -> [L::Int; 4] {
    let mut vectors = [l.splat_int(0); 4];
    for (vector, codes) in vectors.iter_mut().zip(codes.as_chunks::<8>().0) {
        // SAFETY: eight words are 64 bytes.
        *vector = unsafe { l.load_int(codes.as_ptr().cast()) };
    }
    vectors
}

/// Each of eight bytes twice.
#[inline(always)]
pub(super) fn doubled(bytes: u64) -> [u64; 2] {
    [bytes & 0xffff_ffff, bytes >> 32].map(|four| {
        let four = (four | four << 16) & 0x0000_ffff_0000_ffff;
        ((four | four << 8) & 0x00ff_00ff_00ff_00ff) * 0x0101
    })
}

/// The nibbles of four bytes as bytes, low ones first.
#[inline(always)]
pub(super) fn nibbles_as_bytes(four: u32) -> u64 {
    let four = u64::from(four);
    let four = (four | four << 16) & 0x0000_ffff_0000_ffff;
    let four = (four | four << 8) & 0x00ff_00ff_00ff_00ff;
    (four | four << 4) & NIBBLES
}

/// The value 1 in each byte.
pub(super) const ONES: u64 = 0x0101_0101_0101_0101;

/// The mask of the low nibble of each byte.
pub(super) const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;

#[inline(always)]
pub(super) fn word32(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

#[inline(always)]
pub(super) fn word64(block: &[u8], at: usize) -> u64 {
    u64::from(word32(block, at)) | u64::from(word32(block, at + 4)) << 32
}

/// 64 bytes from `at` on.
#[inline(always)]
pub(super) fn load<L: Lanes>(l: L, block: &[u8], at: usize) -> L::Int {
    // SAFETY: the slice has 64 bytes.
    unsafe { l.load_int(block[at..at + 64].as_ptr().cast()) }
}

/// 32 bytes from `at` on, twice.
#[inline(always)]
pub(super) fn twice<L: Lanes>(l: L, block: &[u8], at: usize) -> L::Int {
    let from = block[at..at + 32].as_ptr();
    // SAFETY: the slice has 32 bytes.
    unsafe { l.join(from, from) }
}

/// The low nibbles of 64 bytes, and the high ones.
#[inline(always)]
pub(super) fn nibbles<L: Lanes>(l: L, block: &[u8], at: usize) -> [L::Int; 2] {
    let [low, high] = low_and_high(l, block, at);
    [l.and_bytes(low, 15), l.and_bytes(high, 15)]
}

/// 64 bytes, and the same bytes with the high nibbles moved to the low ones.
#[inline(always)]
pub(super) fn low_and_high<L: Lanes>(l: L, block: &[u8], at: usize) -> [L::Int; 2] {
    let bytes = load(l, block, at);
    [bytes, l.shr_halves::<4, 4>(bytes)]
}

/// The low nibbles of `low` with two bits of `two` above them.
#[inline(always)]
pub(super) fn six_bits_of<L: Lanes>(l: L, low: L::Int, two: L::Int) -> L::Int {
    l.or_int(l.and_bytes(low, 15), l.and_bytes(two, 0x30))
}

/// 256 codes of two bits.
#[inline(always)]
pub(super) fn two_bits<L: Lanes>(l: L, block: &[u8], at: usize) -> [L::Int; 4] {
    let (a, b) = (twice(l, block, at), twice(l, block, at + 32));
    [
        l.and_bytes(l.shr_halves::<0, 2>(a), 3),
        l.and_bytes(l.shr_halves::<4, 6>(a), 3),
        l.and_bytes(l.shr_halves::<0, 2>(b), 3),
        l.and_bytes(l.shr_halves::<4, 6>(b), 3),
    ]
}

/// The scales and mins of Q4_K and Q5_K, which follow their two factors.
#[inline(always)]
pub(super) fn six_bits<L: Lanes>(l: L, block: &[u8]) -> [u64; 2] {
    l.six_bits(&block.as_chunks::<16>().0[0])
}

/// The heads of sixteen blocks of Q4_K or Q5_K, a block in each lane.
#[derive(Clone, Copy)]
pub(crate) struct Heads<L: Lanes> {
    /// `d` and `dmin`.
    pub(crate) factors: [L::Float; 2],
    /// Scales of sub-blocks 0 to 3 and 4 to 7, a byte each.
    pub(crate) scales: [L::Int; 2],
    /// Their mins.
    pub(crate) mins: [L::Int; 2],
}

impl<L: Lanes> Heads<L> {
    /// # Safety
    /// Blocks must have 16 bytes.
    #[inline(always)]
    pub(crate) unsafe fn of(l: L, blocks: &[*const u8; LANES]) -> Self {
        // SAFETY: the caller vouches for it.
        let [factors, scales, mins, low] = unsafe { l.four_words_at(blocks) };
        // See `Integers::six_bits`.
        let (high_scales, high_mins) = (l.shr_halves::<2, 2>(scales), l.shr_halves::<2, 2>(mins));
        Self {
            factors: [l.halves_at::<0>(factors), l.halves_at::<16>(factors)],
            scales: [l.and_bytes(scales, 0x3f), six_bits_of(l, low, high_scales)],
            mins: [l.and_bytes(mins, 0x3f), six_bits_of(l, l.shr_halves::<4, 4>(low), high_mins)],
        }
    }
}

/// The nibbles of 16 bytes from `at` on of each block.
#[inline(always)]
pub(super) fn block_nibbles<L: Lanes>(l: L, blocks: [&[u8]; 2], at: usize) -> L::Int {
    // SAFETY: the slices have 16 bytes.
    unsafe { l.nibbles(blocks[0][at..at + 16].as_ptr(), blocks[1][at..at + 16].as_ptr()) }
}

/// The same with the fifth bits from byte `bits` on.
#[inline(always)]
pub(super) fn block_fives<L: Lanes>(l: L, blocks: [&[u8]; 2], bits: usize, at: usize) -> L::Int {
    let bits = [word32(blocks[0], bits), word32(blocks[1], bits)];
    l.or_int(block_nibbles(l, blocks, at), l.bytes_of_bits(bits, 16))
}

/// The low nibbles of 16 bytes from `at` on of each block, and the high ones.
#[inline(always)]
pub(super) fn run_nibbles<L: Lanes>(l: L, blocks: [&[u8]; 4], at: usize) -> [L::Int; 2] {
    let mut places = [std::ptr::null(); 4];
    for (place, block) in places.iter_mut().zip(blocks) {
        *place = block[at..at + 16].as_ptr();
    }
    // SAFETY: the slices have 16 bytes.
    let bytes = unsafe { l.join_four(places) };
    [l.and_bytes(bytes, 15), l.and_bytes(l.shr_halves::<4, 4>(bytes), 15)]
}

/// The same with the fifth bits from byte `bits` on.
#[inline(always)]
pub(super) fn run_fives<L: Lanes>(l: L, blocks: [&[u8]; 4], bits: usize, at: usize) -> [L::Int; 2] {
    let [low, high] = run_nibbles(l, blocks, at);
    let [a, b] = [word32(blocks[0], bits), word32(blocks[1], bits)];
    let [c, d] = [word32(blocks[2], bits), word32(blocks[3], bits)];
    let first = [a & 0xffff | b << 16, c & 0xffff | d << 16];
    let second = [a >> 16 | b & 0xffff_0000, c >> 16 | d & 0xffff_0000];
    [l.or_int(low, l.bytes_of_bits(first, 16)), l.or_int(high, l.bytes_of_bits(second, 16))]
}
