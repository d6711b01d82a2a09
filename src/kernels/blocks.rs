//! The blocks of quantized formats, unpacked to what products need: unsigned byte codes, integer scales, and floats.
//!
//! In every super-block format an element is `d * scale * (code - zero) - dmin * min`, in every block format
//! `d * (code - zero) + m`. The products over codes, scales, mins and zeros are exact in integers; only their sums a
//! block meet floats.

use super::lanes::Lanes;

/// Sub-blocks of 16 elements in a super-block.
pub(super) const SUBS: usize = 16;

/// A super-block of 256 elements.
#[repr(C, align(64))]
pub(crate) struct SuperBlock {
    pub(super) codes: [u8; 256],
    /// Of each 16 elements.
    pub(super) scales: [i16; SUBS],
    /// Of each 16 elements: times the sum of the input's codes, added to the products (`-zero * scale`).
    pub(super) zeros: [i16; SUBS],
    /// Of each 16 elements.
    pub(super) mins: [i16; SUBS],
    pub(super) d: f32,
    /// Zero where the format has no mins.
    pub(super) dmin: f32,
}

impl Default for SuperBlock {
    fn default() -> Self {
        Self { codes: [0; 256], scales: [0; SUBS], zeros: [0; SUBS], mins: [0; SUBS], d: 0.0, dmin: 0.0 }
    }
}

/// A format of super-blocks.
pub(super) trait SuperBlockFormat {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether elements have mins.
    const MINS: bool;
    /// Whether codes have a zero point.
    const ZEROS: bool;
    /// Elements that share a scale: 16 or 32.
    const SUB_LEN: usize;

    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock);
}

/// A block of 32 elements.
#[repr(C, align(32))]
pub(crate) struct Block {
    pub(super) codes: [u8; 32],
    pub(super) d: f32,
    pub(super) m: f32,
}

impl Default for Block {
    fn default() -> Self {
        Self { codes: [0; 32], d: 0.0, m: 0.0 }
    }
}

/// A format of blocks of 32 elements.
pub(super) trait BlockFormat {
    const BYTES: usize;
    /// The code of zero.
    const ZERO: i32;
    /// Whether blocks have an offset.
    const OFFSET: bool;

    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut Block);
}

#[inline(always)]
fn f16_at<L: Lanes>(l: L, block: &[u8], at: usize) -> f32 {
    l.half(u16::from_le_bytes([block[at], block[at + 1]]))
}

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// `N` bytes from `at` on, as a value: what is computed from values becomes vector code.
#[inline(always)]
fn bytes<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&block[at..at + N]);
    bytes
}

/// `f` of each element.
#[inline(always)]
fn map<const N: usize>(x: [u8; N], f: impl Fn(u8) -> u8) -> [u8; N] {
    let mut y = [0; N];
    for i in 0..N {
        y[i] = f(x[i]);
    }
    y
}

/// `f` of each pair of elements.
#[inline(always)]
fn zip<const N: usize>(a: [u8; N], b: [u8; N], f: impl Fn(u8, u8) -> u8) -> [u8; N] {
    let mut y = [0; N];
    for i in 0..N {
        y[i] = f(a[i], b[i]);
    }
    y
}

/// Four runs of 32 two-bit codes from 32 bytes, twice.
#[inline(always)]
fn two_bits(block: &[u8], at: usize, codes: &mut [u8; 256]) {
    for half in 0..2 {
        let bytes: [u8; 32] = bytes(block, at + 32 * half);
        for run in 0..4 {
            codes[128 * half + 32 * run..][..32].copy_from_slice(&map(bytes, |b| b >> (2 * run) & 3));
        }
    }
}

/// Eight runs of 32 four-bit codes, two from 32 bytes.
#[inline(always)]
fn four_bits(block: &[u8], at: usize, codes: &mut [u8; 256]) {
    for pair in 0..4 {
        let bytes: [u8; 32] = bytes(block, at + 32 * pair);
        codes[64 * pair..][..32].copy_from_slice(&map(bytes, |b| b & 15));
        codes[64 * pair + 32..][..32].copy_from_slice(&map(bytes, |b| b >> 4));
    }
}

/// One more bit, `1 << to`, for eight runs of 32 codes, from the eight bits of 32 bytes.
#[inline(always)]
fn high_bits(block: &[u8], at: usize, to: u32, codes: &mut [u8; 256]) {
    let high: [u8; 32] = bytes(block, at);
    for run in 0..8 {
        let low: [u8; 32] = bytes(codes, 32 * run);
        codes[32 * run..][..32].copy_from_slice(&zip(low, high, |l, h| l | (h >> run & 1) << to));
    }
}

impl SuperBlockFormat for Q2K {
    const BYTES: usize = 84;
    const MINS: bool = true;
    const ZEROS: bool = false;
    const SUB_LEN: usize = 16;

    #[inline(always)]
    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock) {
        two_bits(block, 16, &mut to.codes);
        let packed: [u8; SUBS] = bytes(block, 0);
        for j in 0..SUBS {
            to.scales[j] = i16::from(packed[j] & 15);
            to.mins[j] = i16::from(packed[j] >> 4);
        }
        to.d = f16_at(l, block, 80);
        to.dmin = f16_at(l, block, 82);
    }
}

impl SuperBlockFormat for Q3K {
    const BYTES: usize = 110;
    const MINS: bool = false;
    const ZEROS: bool = true;
    const SUB_LEN: usize = 16;

    #[inline(always)]
    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock) {
        two_bits(block, 32, &mut to.codes);
        high_bits(block, 0, 2, &mut to.codes);
        let packed: [u8; 12] = bytes(block, 96);
        let mut scales = [0; SUBS];
        for j in 0..SUBS {
            let scale = packed[j % 8] >> (j / 8 * 4) & 15 | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
            scales[j] = i16::from(scale) - 32;
        }
        for j in 0..SUBS {
            to.scales[j] = scales[j];
            to.zeros[j] = -4 * scales[j];
        }
        to.d = f16_at(l, block, 108);
    }
}

/// The scales and mins of Q4_K and Q5_K, each for two sub-blocks.
#[inline(always)]
fn six_bit_scales<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock) {
    // The twelve bytes as words of four: six bits each of scales and mins 0 to 3, with the high two bits of 4 to 7.
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (a, b, c) = (word(4), word(8), word(12));
    let high = |w: u32| (w >> 6 & 0x0303_0303) << 4;
    let scales = u64::from(a & 0x3f3f_3f3f) | u64::from(c & 0x0f0f_0f0f | high(a)) << 32;
    let mins = u64::from(b & 0x3f3f_3f3f) | u64::from(c >> 4 & 0x0f0f_0f0f | high(b)) << 32;
    let (scales, mins) = (scales.to_le_bytes(), mins.to_le_bytes());
    let (mut twice_scales, mut twice_mins) = ([0; SUBS], [0; SUBS]);
    for j in 0..SUBS {
        twice_scales[j] = i16::from(scales[j / 2]);
        twice_mins[j] = i16::from(mins[j / 2]);
    }
    (to.scales, to.mins) = (twice_scales, twice_mins);
    to.d = f16_at(l, block, 0);
    to.dmin = f16_at(l, block, 2);
}

impl SuperBlockFormat for Q4K {
    const BYTES: usize = 144;
    const MINS: bool = true;
    const ZEROS: bool = false;
    const SUB_LEN: usize = 32;

    #[inline(always)]
    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock) {
        four_bits(block, 16, &mut to.codes);
        six_bit_scales(l, block, to);
    }
}

impl SuperBlockFormat for Q5K {
    const BYTES: usize = 176;
    const MINS: bool = true;
    const ZEROS: bool = false;
    const SUB_LEN: usize = 32;

    #[inline(always)]
    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock) {
        four_bits(block, 48, &mut to.codes);
        high_bits(block, 16, 4, &mut to.codes);
        six_bit_scales(l, block, to);
    }
}

impl SuperBlockFormat for Q6K {
    const BYTES: usize = 210;
    const MINS: bool = false;
    const ZEROS: bool = true;
    const SUB_LEN: usize = 16;

    #[inline(always)]
    fn unpack<L: Lanes>(l: L, block: &[u8], to: &mut SuperBlock) {
        for half in 0..2 {
            let (a, b): ([u8; 32], [u8; 32]) = (bytes(block, 64 * half), bytes(block, 64 * half + 32));
            let high: [u8; 32] = bytes(block, 128 + 32 * half);
            let codes = &mut to.codes[128 * half..][..128];
            codes[..32].copy_from_slice(&zip(a, high, |l, h| l & 15 | (h & 3) << 4));
            codes[32..64].copy_from_slice(&zip(b, high, |l, h| l & 15 | (h >> 2 & 3) << 4));
            codes[64..96].copy_from_slice(&zip(a, high, |l, h| l >> 4 | (h >> 4 & 3) << 4));
            codes[96..].copy_from_slice(&zip(b, high, |l, h| l >> 4 | (h >> 6) << 4));
        }
        let scales: [u8; SUBS] = bytes(block, 192);
        for j in 0..SUBS {
            to.scales[j] = i16::from(scales[j] as i8);
            to.zeros[j] = -32 * i16::from(scales[j] as i8);
        }
        to.d = f16_at(l, block, 208);
    }
}

/// Sixteen bytes of nibbles as 32 codes.
#[inline(always)]
fn nibbles(block: &[u8], at: usize, f: impl Fn(u8) -> u8) -> [u8; 32] {
    let packed: [u8; 16] = bytes(block, at);
    let mut codes = [0; 32];
    codes[..16].copy_from_slice(&map(packed, |b| f(b & 15)));
    codes[16..].copy_from_slice(&map(packed, |b| f(b >> 4)));
    codes
}

/// Sixteen bytes of nibbles and four bytes of fifth bits as 32 codes.
#[inline(always)]
fn fives(block: &[u8], bits: usize, at: usize) -> [u8; 32] {
    let bits: [u8; 4] = bytes(block, bits);
    let mut spread = [0; 32];
    for i in 0..32 {
        spread[i] = bits[i / 8] & 1 << (i % 8);
    }
    zip(nibbles(block, at, |code| code), spread, |low, bit| low | u8::from(bit != 0) << 4)
}

macro_rules! block_format {
    ($($name:ident, $bytes:literal, zero $zero:literal, offset $offset:literal, |$l:ident, $block:ident, $to:ident| $unpack:block)*) => {$(
        pub(super) struct $name;

        impl BlockFormat for $name {
            const BYTES: usize = $bytes;
            const ZERO: i32 = $zero;
            const OFFSET: bool = $offset;

            #[inline(always)]
            fn unpack<L: Lanes>($l: L, $block: &[u8], $to: &mut Block) $unpack
        }
    )*};
}

block_format! {
    Q40, 18, zero 8, offset false, |l, block, to| {
        to.codes = nibbles(block, 2, |code| code);
        to.d = f16_at(l, block, 0);
    }
    Q41, 20, zero 0, offset true, |l, block, to| {
        to.codes = nibbles(block, 4, |code| code);
        (to.d, to.m) = (f16_at(l, block, 0), f16_at(l, block, 2));
    }
    Q50, 22, zero 16, offset false, |l, block, to| {
        to.codes = fives(block, 2, 6);
        to.d = f16_at(l, block, 0);
    }
    Q51, 24, zero 0, offset true, |l, block, to| {
        to.codes = fives(block, 4, 8);
        (to.d, to.m) = (f16_at(l, block, 0), f16_at(l, block, 2));
    }
    Q80, 34, zero 128, offset false, |l, block, to| {
        to.codes = map(bytes(block, 2), |b| b ^ 0x80);
        to.d = f16_at(l, block, 0);
    }
    Mxfp4, 17, zero 12, offset false, |_l, block, to| {
        // Twice the values, with 12 added: 12 to 15 and 16, 18, 20, 24, and their mirror images.
        to.codes = nibbles(block, 1, |code| {
            let size = code & 7;
            let size = if size > 4 { 2 * size - 4 + 2 * u8::from(size == 7) } else { size };
            if code > 7 { 12 - size } else { 12 + size }
        });
        let e = block[0];
        to.d = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 });
    }
}
