//! The blocks of quantized formats as products need them: unsigned byte codes in vectors, integer scales, and floats.
//!
//! In every super-block format an element is `d * scale * (code - zero) - dmin * min`, in every block format
//! `d * (code - zero) + m`. The products over codes, scales, mins and zeros are exact in integers; only their sums a
//! block meet floats.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::integers::{NO_HIGH_BYTE, Spread};
use super::lanes::{LANES, Lanes};

/// Sub-blocks of 16 elements in a super-block.
pub(super) const SUBS: usize = 16;

/// The integers of a super-block besides its codes, one a sub-block.
#[derive(Clone, Copy)]
pub(super) struct SubScales {
    /// Sixteen, or eight and the mins.
    pub(super) scales: [i16; SUBS],
    /// Times the sum of the input's codes: mins, or what zero points add to the products (`-zero * scale`). Sixteen, or
    /// eight and as many zeros.
    pub(super) offsets: [i16; SUBS],
}

/// A format of super-blocks of 256 elements.
pub(super) trait SuperBlockFormat {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether elements have mins.
    const MINS: bool;
    /// The code of zero; there are no mins unless it is 0.
    const ZERO: i16;
    /// What is added to scales where they are stored.
    const SCALE_BIAS: i16;
    /// Elements that share a scale: 16 or 32.
    const SUB_LEN: usize;
    /// Which runs of 32 elements the halves of each vector of codes are.
    const HALVES: [[usize; 2]; 4] = [[0, 1], [2, 3], [4, 5], [6, 7]];
    /// Where the factor `d` is, in half precision; `dmin` follows it where there are mins, else the block ends.
    const FACTORS: usize;
    /// Which scale belongs to each word of each vector.
    const SPREAD: [Spread; 4] = spread(Self::HALVES, Self::SUB_LEN);

    /// The codes, in vectors of 64.
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4];

    /// A byte for each of sixteen scales, or for each of eight and of as many mins.
    fn scale_bytes<L: Lanes>(l: L, block: &[u8]) -> [u64; 2];

    /// A byte for each of sixteen mins.
    #[inline(always)]
    fn min_bytes(_block: &[u8]) -> [u64; 2] {
        [0; 2]
    }

    /// The mins of sixteen blocks with as many sub-blocks, a block in each lane, four mins a vector.
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
        if Self::SUB_LEN == 32 {
            offsets[..8].copy_from_slice(&scales[8..]);
        } else if Self::MINS {
            offsets = l.widen(Self::min_bytes(block));
        } else {
            for (offset, scale) in offsets.iter_mut().zip(scales) {
                *offset = -Self::ZERO * scale;
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
        // SAFETY: two factors lie side by side, and before a last one are other bytes of the block.
        unsafe {
            if Self::MINS {
                let both = l.words_at(&offset(blocks, Self::FACTORS));
                [l.halves_at::<0>(both), l.halves_at::<16>(both)]
            } else {
                let last = l.words_at(&offset(blocks, Self::FACTORS - 2));
                [l.halves_at::<16>(last), l.splat(0.0)]
            }
        }
    }
}

/// A format of blocks of 32 elements.
pub(super) trait BlockFormat {
    const BYTES: usize;
    /// The code of zero.
    const ZERO: i16;
    /// Whether blocks have an offset.
    const OFFSET: bool;

    /// Blocks that are multiplied at once: two of one vector, or four of two vectors.
    const RUN: usize;

    /// The codes of two blocks.
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int;

    /// The codes of two blocks, or the first halves of those of four, and the second.
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2];

    /// The factors `d` of sixteen blocks, and their offsets `m`, from the first four bytes of each.
    #[inline(always)]
    fn factors<L: Lanes>(l: L, words: L::Int) -> [L::Float; 2] {
        [l.halves_at::<0>(words), if Self::OFFSET { l.halves_at::<16>(words) } else { l.splat(0.0) }]
    }
}

/// Places so many bytes behind others.
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

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// The low nibble of each byte.
const NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;

#[inline(always)]
fn word32(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

#[inline(always)]
fn word64(block: &[u8], at: usize) -> u64 {
    u64::from(word32(block, at)) | u64::from(word32(block, at + 4)) << 32
}

/// 64 bytes from `at` on.
#[inline(always)]
fn load<L: Lanes>(l: L, block: &[u8], at: usize) -> L::Int {
    // SAFETY: the slice has 64 bytes.
    unsafe { l.load_int(block[at..at + 64].as_ptr().cast()) }
}

/// 32 bytes from `at` on, twice.
#[inline(always)]
fn twice<L: Lanes>(l: L, block: &[u8], at: usize) -> L::Int {
    let from = block[at..at + 32].as_ptr();
    // SAFETY: the slice has 32 bytes.
    unsafe { l.join(from, from) }
}

/// The low nibbles of 64 bytes, and the high ones.
#[inline(always)]
fn nibbles<L: Lanes>(l: L, block: &[u8], at: usize) -> [L::Int; 2] {
    let [low, high] = low_and_high(l, block, at);
    [l.and_bytes(low, 15), l.and_bytes(high, 15)]
}

/// 64 bytes, and their high nibbles in the place of the low ones.
#[inline(always)]
fn low_and_high<L: Lanes>(l: L, block: &[u8], at: usize) -> [L::Int; 2] {
    let bytes = load(l, block, at);
    [bytes, l.shr_halves::<4, 4>(bytes)]
}

/// The low nibbles of bytes, and two bits above them.
#[inline(always)]
fn six_bits_of<L: Lanes>(l: L, low: L::Int, two: L::Int) -> L::Int {
    l.or_int(l.and_bytes(low, 15), l.and_bytes(two, 0x30))
}

/// 256 codes of two bits.
#[inline(always)]
fn two_bits<L: Lanes>(l: L, block: &[u8], at: usize) -> [L::Int; 4] {
    let (a, b) = (twice(l, block, at), twice(l, block, at + 32));
    [
        l.and_bytes(l.shr_halves::<0, 2>(a), 3),
        l.and_bytes(l.shr_halves::<4, 6>(a), 3),
        l.and_bytes(l.shr_halves::<0, 2>(b), 3),
        l.and_bytes(l.shr_halves::<4, 6>(b), 3),
    ]
}

impl SuperBlockFormat for Q2K {
    const BYTES: usize = 84;
    const MINS: bool = true;
    const ZERO: i16 = 0;
    const SCALE_BIAS: i16 = 0;
    const SUB_LEN: usize = 16;
    const FACTORS: usize = 80;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        two_bits(l, block, 16)
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        [word64(block, 0) & NIBBLES, word64(block, 8) & NIBBLES]
    }

    #[inline(always)]
    fn min_bytes(block: &[u8]) -> [u64; 2] {
        [word64(block, 0) >> 4 & NIBBLES, word64(block, 8) >> 4 & NIBBLES]
    }

    #[inline(always)]
    unsafe fn mins_of<L: Lanes>(l: L, blocks: &[*const u8; LANES]) -> [L::Int; 4] {
        // SAFETY: blocks begin with sixteen bytes of scales and mins.
        let mut words = unsafe { l.four_words_at(blocks) };
        for word in &mut words {
            *word = l.and_bytes(l.shr_halves::<4, 4>(*word), 15);
        }
        words
    }
}

impl SuperBlockFormat for Q3K {
    const BYTES: usize = 110;
    const MINS: bool = false;
    const ZERO: i16 = 4;
    const SCALE_BIAS: i16 = 32;
    const SUB_LEN: usize = 16;
    const FACTORS: usize = 108;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let (low, high) = (two_bits(l, block, 32), twice(l, block, 0));
        let third = |low, high| l.or_int(low, l.shl_int::<2>(l.and_bytes(high, 1)));
        [
            third(low[0], l.shr_halves::<0, 1>(high)),
            third(low[1], l.shr_halves::<2, 3>(high)),
            third(low[2], l.shr_halves::<4, 5>(high)),
            third(low[3], l.shr_halves::<6, 7>(high)),
        ]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        // Eight bytes of nibbles, low ones first; four bytes with two more bits of scales i, i + 4, i + 8 and i + 12.
        let (low, high) = (word64(block, 96), word32(block, 104));
        let two = |shift: u32| u64::from(high >> shift & 0x0303_0303);
        [low & NIBBLES | (two(0) | two(2) << 32) << 4, low >> 4 & NIBBLES | (two(4) | two(6) << 32) << 4]
    }
}

/// The scales and mins of Q4_K and Q5_K, which follow their two factors.
#[inline(always)]
fn six_bits<L: Lanes>(l: L, block: &[u8]) -> [u64; 2] {
    l.six_bits(&block.as_chunks::<16>().0[0])
}

/// What sixteen blocks of Q4_K or Q5_K begin with, a block in each lane.
#[derive(Clone, Copy)]
pub(super) struct Heads<L: Lanes> {
    /// `d` and `dmin`.
    pub(super) factors: [L::Float; 2],
    /// Scales of sub-blocks 0 to 3 and 4 to 7, a byte each.
    pub(super) scales: [L::Int; 2],
    /// Their mins.
    pub(super) mins: [L::Int; 2],
}

impl<L: Lanes> Heads<L> {
    /// # Safety
    /// Blocks must have 16 bytes.
    #[inline(always)]
    pub(super) unsafe fn of(l: L, blocks: &[*const u8; LANES]) -> Self {
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

impl SuperBlockFormat for Q4K {
    const BYTES: usize = 144;
    const MINS: bool = true;
    const ZERO: i16 = 0;
    const SCALE_BIAS: i16 = 0;
    const SUB_LEN: usize = 32;
    const HALVES: [[usize; 2]; 4] = [[0, 2], [1, 3], [4, 6], [5, 7]];
    const FACTORS: usize = 0;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let ([a, b], [c, d]) = (nibbles(l, block, 16), nibbles(l, block, 80));
        [a, b, c, d]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(l: L, block: &[u8]) -> [u64; 2] {
        six_bits(l, block)
    }
}

impl SuperBlockFormat for Q5K {
    const BYTES: usize = 176;
    const MINS: bool = true;
    const ZERO: i16 = 0;
    const SCALE_BIAS: i16 = 0;
    const SUB_LEN: usize = 32;
    const HALVES: [[usize; 2]; 4] = Q4K::HALVES;
    const FACTORS: usize = 0;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let ([a, b], [c, d]) = (nibbles(l, block, 48), nibbles(l, block, 112));
        // Eight fifth bits in each byte, to be moved to the fifth place.
        let fifths = twice(l, block, 16);
        [
            l.or_int(a, l.and_bytes(l.shl_halves::<4, 2>(fifths), 16)),
            l.or_int(b, l.and_bytes(l.shl_halves::<3, 1>(fifths), 16)),
            l.or_int(c, l.and_bytes(l.shr_halves::<0, 2>(fifths), 16)),
            l.or_int(d, l.and_bytes(l.shr_halves::<1, 3>(fifths), 16)),
        ]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(l: L, block: &[u8]) -> [u64; 2] {
        six_bits(l, block)
    }
}

impl SuperBlockFormat for Q6K {
    const BYTES: usize = 210;
    const MINS: bool = false;
    const ZERO: i16 = 32;
    const SCALE_BIAS: i16 = 128;
    const SUB_LEN: usize = 16;
    const FACTORS: usize = 208;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, block: &[u8]) -> [L::Int; 4] {
        let ([a, b], [c, d]) = (low_and_high(l, block, 0), low_and_high(l, block, 64));
        let (first, second) = (twice(l, block, 128), twice(l, block, 160));
        // Four pairs of bits in each byte, to be moved to the fifth and sixth place.
        [
            six_bits_of(l, a, l.shl_halves::<4, 2>(first)),
            six_bits_of(l, b, l.shr_halves::<0, 2>(first)),
            six_bits_of(l, c, l.shl_halves::<4, 2>(second)),
            six_bits_of(l, d, l.shr_halves::<0, 2>(second)),
        ]
    }

    #[inline(always)]
    fn scale_bytes<L: Lanes>(_: L, block: &[u8]) -> [u64; 2] {
        // From signed bytes to unsigned ones.
        [word64(block, 192), word64(block, 200)].map(|bytes| bytes ^ 0x8080_8080_8080_8080)
    }
}

/// The nibbles of 16 bytes from `at` on of each block.
#[inline(always)]
fn block_nibbles<L: Lanes>(l: L, blocks: [&[u8]; 2], at: usize) -> L::Int {
    // SAFETY: the slices have 16 bytes.
    unsafe { l.nibbles(blocks[0][at..at + 16].as_ptr(), blocks[1][at..at + 16].as_ptr()) }
}

/// Those, with the fifth bits that are at `bits`.
#[inline(always)]
fn block_fives<L: Lanes>(l: L, blocks: [&[u8]; 2], bits: usize, at: usize) -> L::Int {
    let bits = [word32(blocks[0], bits), word32(blocks[1], bits)];
    l.or_int(block_nibbles(l, blocks, at), l.bytes_of_bits(bits, 16))
}

/// The low nibbles of 16 bytes from `at` on of each block, and the high ones.
#[inline(always)]
fn run_nibbles<L: Lanes>(l: L, blocks: [&[u8]; 4], at: usize) -> [L::Int; 2] {
    let mut places = [std::ptr::null(); 4];
    for (place, block) in places.iter_mut().zip(blocks) {
        *place = block[at..at + 16].as_ptr();
    }
    // SAFETY: the slices have 16 bytes.
    let bytes = unsafe { l.join_four(places) };
    [l.and_bytes(bytes, 15), l.and_bytes(l.shr_halves::<4, 4>(bytes), 15)]
}

/// Those, with the fifth bits that are at `bits`.
#[inline(always)]
fn run_fives<L: Lanes>(l: L, blocks: [&[u8]; 4], bits: usize, at: usize) -> [L::Int; 2] {
    let [low, high] = run_nibbles(l, blocks, at);
    let [a, b] = [word32(blocks[0], bits), word32(blocks[1], bits)];
    let [c, d] = [word32(blocks[2], bits), word32(blocks[3], bits)];
    let first = [a & 0xffff | b << 16, c & 0xffff | d << 16];
    let second = [a >> 16 | b & 0xffff_0000, c >> 16 | d & 0xffff_0000];
    [l.or_int(low, l.bytes_of_bits(first, 16)), l.or_int(high, l.bytes_of_bits(second, 16))]
}

macro_rules! block_format {
    ($($name:ident, $bytes:literal, zero $zero:literal, offset $offset:literal, |$l:ident, $blocks:ident| $codes:expr, $run:expr;)*) => {$(
        pub(super) struct $name;

        impl BlockFormat for $name {
            const BYTES: usize = $bytes;
            const ZERO: i16 = $zero;
            const OFFSET: bool = $offset;
            const RUN: usize = if $zero == 128 { 2 } else { 4 };

            #[inline(always)]
            fn codes<L: Lanes>($l: L, $blocks: [&[u8]; 2]) -> L::Int {
                $codes
            }

            #[inline(always)]
            fn run<L: Lanes>($l: L, $blocks: [&[u8]; 4]) -> [L::Int; 2] {
                $run
            }
        }
    )*};
}

block_format! {
    Q40, 18, zero 8, offset false, |l, blocks| block_nibbles(l, blocks, 2), run_nibbles(l, blocks, 2);
    Q41, 20, zero 0, offset true, |l, blocks| block_nibbles(l, blocks, 4), run_nibbles(l, blocks, 4);
    Q50, 22, zero 16, offset false, |l, blocks| block_fives(l, blocks, 2, 6), run_fives(l, blocks, 2, 6);
    Q51, 24, zero 0, offset true, |l, blocks| block_fives(l, blocks, 4, 8), run_fives(l, blocks, 4, 8);
    Q80, 34, zero 128, offset false, |l, blocks| {
        // SAFETY: the slices have 32 bytes.
        let codes = unsafe { l.join(blocks[0][2..34].as_ptr(), blocks[1][2..34].as_ptr()) };
        l.xor_bytes(codes, 0x80)
    }, [Self::codes(l, [blocks[0], blocks[1]]), l.splat_int(0)];
}

pub(super) struct Mxfp4;

/// Twice the values, with 16 added.
const MXFP4_CODES: [u8; 16] = [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4];

impl BlockFormat for Mxfp4 {
    const BYTES: usize = 17;
    const RUN: usize = 4;
    const ZERO: i16 = 16;
    const OFFSET: bool = false;

    #[inline(always)]
    fn codes<L: Lanes>(l: L, blocks: [&[u8]; 2]) -> L::Int {
        l.lookup(&MXFP4_CODES, block_nibbles(l, blocks, 1))
    }

    #[inline(always)]
    fn run<L: Lanes>(l: L, blocks: [&[u8]; 4]) -> [L::Int; 2] {
        let [low, high] = run_nibbles(l, blocks, 1);
        [l.lookup(&MXFP4_CODES, low), l.lookup(&MXFP4_CODES, high)]
    }

    #[inline(always)]
    fn factors<L: Lanes>(l: L, words: L::Int) -> [L::Float; 2] {
        let (mut exponents, mut scales) = ([0; LANES], [0.0; LANES]);
        // SAFETY: the array holds 16 integers.
        unsafe { l.store_int(exponents.as_mut_ptr(), words) };
        for (scale, word) in scales.iter_mut().zip(exponents) {
            let e = word as u32 & 0xff;
            *scale = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
        }
        [l.array(&scales), l.splat(0.0)]
    }
}
