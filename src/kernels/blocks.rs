//! The blocks of quantized formats, unpacked to what products need: unsigned byte codes, integer scales, and floats.
//!
//! In every super-block format an element is `d * scale * (code - zero) - dmin * min`, in every block format
//! `d * (code - zero) + m`. The products over codes, scales, mins and zeros are exact in integers; only their sums a
//! block meet floats.

use crate::quant::unpack_six_bit_scales;

/// Sub-blocks of 16 elements in a super-block.
pub(super) const SUBS: usize = 16;

/// A super-block of 256 elements.
#[repr(C, align(64))]
pub(super) struct SuperBlock {
    pub(super) codes: [u8; 256],
    /// Of each 16 elements.
    pub(super) scales: [i16; SUBS],
    /// Of each 16 elements: times the sum of the input's codes, added to the products (`-zero * scale`).
    pub(super) zeros: [i16; SUBS],
    /// Of each 16 elements.
    pub(super) mins: [i16; SUBS],
    pub(super) d: f32,
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

    fn unpack(block: &[u8], to: &mut SuperBlock);
}

/// A block of 32 elements.
#[repr(C, align(32))]
pub(super) struct Block {
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

    fn unpack(block: &[u8], to: &mut Block);
}

fn f16_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// Four runs of 32 two-bit codes from 32 bytes, twice.
#[inline(always)]
fn two_bits(bytes: &[u8], codes: &mut [u8; 256]) {
    for (bytes, codes) in bytes.chunks_exact(32).zip(codes.chunks_exact_mut(128)) {
        for (run, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = byte >> (2 * run) & 3;
            }
        }
    }
}

/// Eight runs of 32 four-bit codes, two from 32 bytes.
#[inline(always)]
fn four_bits(bytes: &[u8], codes: &mut [u8; 256]) {
    for (bytes, codes) in bytes.chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
        for i in 0..32 {
            codes[i] = bytes[i] & 15;
            codes[i + 32] = bytes[i] >> 4;
        }
    }
}

impl SuperBlockFormat for Q2K {
    const BYTES: usize = 84;
    const MINS: bool = true;
    const ZEROS: bool = false;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut SuperBlock) {
        two_bits(&block[16..80], &mut to.codes);
        for (j, byte) in block[..16].iter().enumerate() {
            to.scales[j] = i16::from(byte & 15);
            to.mins[j] = i16::from(byte >> 4);
        }
        to.d = f16_at(block, 80);
        to.dmin = f16_at(block, 82);
    }
}

impl SuperBlockFormat for Q3K {
    const BYTES: usize = 110;
    const MINS: bool = false;
    const ZEROS: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut SuperBlock) {
        two_bits(&block[32..96], &mut to.codes);
        for (run, codes) in to.codes.chunks_exact_mut(32).enumerate() {
            for (code, byte) in codes.iter_mut().zip(&block[..32]) {
                *code |= (byte >> run & 1) << 2;
            }
        }
        let packed = &block[96..108];
        for j in 0..SUBS {
            let scale = packed[j % 8] >> (j / 8 * 4) & 15 | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
            to.scales[j] = i16::from(scale) - 32;
            to.zeros[j] = -4 * to.scales[j];
        }
        to.d = f16_at(block, 108);
    }
}

/// The scales and mins of Q4_K and Q5_K, each for two sub-blocks.
#[inline(always)]
fn six_bit_scales(block: &[u8], to: &mut SuperBlock) {
    let (scales, mins) = unpack_six_bit_scales(&block[4..16]);
    for j in 0..SUBS {
        to.scales[j] = i16::from(scales[j / 2]);
        to.mins[j] = i16::from(mins[j / 2]);
    }
    to.d = f16_at(block, 0);
    to.dmin = f16_at(block, 2);
}

impl SuperBlockFormat for Q4K {
    const BYTES: usize = 144;
    const MINS: bool = true;
    const ZEROS: bool = false;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut SuperBlock) {
        four_bits(&block[16..144], &mut to.codes);
        six_bit_scales(block, to);
    }
}

impl SuperBlockFormat for Q5K {
    const BYTES: usize = 176;
    const MINS: bool = true;
    const ZEROS: bool = false;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut SuperBlock) {
        four_bits(&block[48..176], &mut to.codes);
        for (run, codes) in to.codes.chunks_exact_mut(32).enumerate() {
            for (code, byte) in codes.iter_mut().zip(&block[16..48]) {
                *code |= (byte >> run & 1) << 4;
            }
        }
        six_bit_scales(block, to);
    }
}

impl SuperBlockFormat for Q6K {
    const BYTES: usize = 210;
    const MINS: bool = false;
    const ZEROS: bool = true;

    #[inline(always)]
    fn unpack(block: &[u8], to: &mut SuperBlock) {
        for half in 0..2 {
            let (low, high) = (&block[half * 64..][..64], &block[128 + half * 32..][..32]);
            let codes = &mut to.codes[half * 128..][..128];
            for i in 0..32 {
                codes[i] = low[i] & 15 | (high[i] & 3) << 4;
                codes[i + 32] = low[i + 32] & 15 | (high[i] >> 2 & 3) << 4;
                codes[i + 64] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
                codes[i + 96] = low[i + 32] >> 4 | (high[i] >> 6) << 4;
            }
        }
        for (j, &scale) in block[192..208].iter().enumerate() {
            to.scales[j] = i16::from(scale as i8);
            to.zeros[j] = -32 * to.scales[j];
        }
        to.d = f16_at(block, 208);
    }
}

/// Sixteen bytes of nibbles as 32 codes.
#[inline(always)]
fn nibbles(bytes: &[u8], codes: &mut [u8; 32]) {
    for i in 0..16 {
        codes[i] = bytes[i] & 15;
        codes[i + 16] = bytes[i] >> 4;
    }
}

#[inline(always)]
fn fifth_bits(bytes: &[u8], codes: &mut [u8; 32]) {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((bits >> i & 1) as u8) << 4;
    }
}

macro_rules! block_format {
    ($($name:ident, $bytes:literal, zero $zero:literal, offset $offset:literal, |$block:ident, $to:ident| $unpack:block)*) => {$(
        pub(super) struct $name;

        impl BlockFormat for $name {
            const BYTES: usize = $bytes;
            const ZERO: i32 = $zero;
            const OFFSET: bool = $offset;

            #[inline(always)]
            fn unpack($block: &[u8], $to: &mut Block) $unpack
        }
    )*};
}

block_format! {
    Q40, 18, zero 8, offset false, |block, to| {
        nibbles(&block[2..18], &mut to.codes);
        to.d = f16_at(block, 0);
    }
    Q41, 20, zero 0, offset true, |block, to| {
        nibbles(&block[4..20], &mut to.codes);
        (to.d, to.m) = (f16_at(block, 0), f16_at(block, 2));
    }
    Q50, 22, zero 16, offset false, |block, to| {
        nibbles(&block[6..22], &mut to.codes);
        fifth_bits(&block[2..6], &mut to.codes);
        to.d = f16_at(block, 0);
    }
    Q51, 24, zero 0, offset true, |block, to| {
        nibbles(&block[8..24], &mut to.codes);
        fifth_bits(&block[4..8], &mut to.codes);
        (to.d, to.m) = (f16_at(block, 0), f16_at(block, 2));
    }
    Q80, 34, zero 128, offset false, |block, to| {
        for (code, byte) in to.codes.iter_mut().zip(&block[2..34]) {
            *code = byte ^ 0x80;
        }
        to.d = f16_at(block, 0);
    }
    Mxfp4, 17, zero 12, offset false, |block, to| {
        // Twice the values, with 12 added, in the order of the codes.
        const VALUES: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];
        nibbles(&block[1..17], &mut to.codes);
        to.codes.iter_mut().for_each(|code| *code = VALUES[usize::from(*code)]);
        let e = block[0];
        to.d = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 });
    }
}
