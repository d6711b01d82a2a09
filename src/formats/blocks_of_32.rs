//! Code shared by Q4_0, Q4_1, Q5_0 and Q5_1: blocks of 32 elements with a nibble each and, in the last two, a fifth bit.
//!
//! Element `i` shares its byte with element `i + 16`. The fifth bits are in a separate word, that of element `i` in bit `i`.

use super::scale_search::{scale_and_min, symmetric_scale, weighted};
use super::super_block::{spread, sum_of_squares};
use super::{Written, encode_weighted_blocks};

/// Elements of a block.
pub(crate) const LEN: usize = 32;

/// A block's scale and offset: `x = d * q + m`. Adding an offset of -0.0 changes no number, not even the sign of a zero.
pub(super) struct Grid {
    pub(super) d: f32,
    pub(super) m: f32,
}

/// Codes of a symmetric block, `0..2 * half`, and its scale.
fn symmetric(x: &[f32], half: u8) -> (f32, [u8; LEN]) {
    let (mut greatest, mut at_greatest) = (0.0f32, 0.0f32);
    for &v in x {
        if greatest < v.abs() {
            greatest = v.abs();
            at_greatest = v;
        }
    }
    let d = at_greatest / -f32::from(half);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let offset = f32::from(half) + 0.5;
    (d, std::array::from_fn(|i| truncated(x[i] * inverse + offset, 2 * half - 1)))
}

/// Codes of an affine block, `0..=top`, and its grid.
fn affine(x: &[f32], top: u8) -> (Grid, [u8; LEN]) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &v in x {
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
    }
    let d = (max - min) / f32::from(top);
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    (Grid { d, m: min }, std::array::from_fn(|i| truncated((x[i] - min) * inverse + 0.5, top)))
}

pub(super) fn put_symmetric<const FIVE: bool>(x: &[f32], block: &mut [u8]) {
    let (d, codes) = symmetric(x, if FIVE { 16 } else { 8 });
    put_block::<FIVE>(half_bits(d), None, &codes, block);
}

pub(super) fn put_affine<const FIVE: bool>(x: &[f32], block: &mut [u8]) {
    let (grid, codes) = affine(x, if FIVE { 31 } else { 15 });
    put_block::<FIVE>(half_bits(grid.d), Some(half_bits(grid.m)), &codes, block);
}

/// Writes a row of symmetric blocks whose elements have importance.
pub(super) fn put_symmetric_row<F: Written, const FIVE: bool>(x: &[f32], importance: &[f32], out: &mut [u8]) {
    let mean_square = sum_of_squares(x) / x.len() as f32;
    encode_weighted_blocks::<F>(x, importance, out, |x, importance, block| {
        let (weights, mut codes) = (weights(x, importance, mean_square), [0; LEN]);
        let d = symmetric_scale(x, &weights, if FIVE { 16 } else { 8 }, &mut codes);
        put_block::<FIVE>(half_bits(d), None, &codes, block);
    });
}

/// Writes a row of affine blocks whose elements have importance.
pub(super) fn put_affine_row<F: Written, const FIVE: bool>(x: &[f32], importance: &[f32], out: &mut [u8]) {
    let mean_square = sum_of_squares(x) / x.len() as f32;
    encode_weighted_blocks::<F>(x, importance, out, |x, importance, block| {
        put_affine_block::<FIVE>(x, importance, mean_square, block);
    });
}

/// Writes a block of a row whose elements have the mean square `mean_square`.
pub(crate) fn put_affine_block<const FIVE: bool>(x: &[f32], importance: &[f32], mean_square: f32, block: &mut [u8]) {
    let (weights, mut codes) = (weights(x, importance, mean_square), [0; LEN]);
    let (d, min) = scale_and_min(x, &weights, &mut codes, &weighted(if FIVE { 31 } else { 15 }));
    put_block::<FIVE>(half_bits(d), Some(half_bits(-min)), &codes, block);
}

fn weights(x: &[f32], importance: &[f32], mean_square: f32) -> [f32; LEN] {
    std::array::from_fn(|i| spread(importance[i], mean_square, x[i]))
}

fn half_bits(x: f32) -> u16 {
    half::f16::from_f32(x).to_bits()
}

/// `x` truncated to an 8-bit integer as x86 does it (0 for what no `i32` holds), and at most `top`.
fn truncated(x: f32, top: u8) -> u8 {
    let whole = if x.abs() < 2_147_483_648.0 { x as i32 } else { 0 };
    i32::from(whole as i8).min(i32::from(top)) as u8
}

/// Writes a block of nibbles: `d`, `m` if it is affine, fifth bits if it has `FIVE`, low bits of the codes.
#[inline(always)]
pub(crate) fn put_block<const FIVE: bool>(d: u16, m: Option<u16>, codes: &[u8; LEN], block: &mut [u8]) {
    let mut at = 2;
    block[..2].copy_from_slice(&d.to_le_bytes());
    if let Some(m) = m {
        block[2..4].copy_from_slice(&m.to_le_bytes());
        at = 4;
    }
    if FIVE {
        block[at..at + 4].copy_from_slice(&fifth_bits(codes));
        at += 4;
    }
    for (i, byte) in block[at..at + LEN / 2].iter_mut().enumerate() {
        *byte = (codes[i] & 15) | (codes[i + LEN / 2] & 15) << 4;
    }
}

/// Bit `i` is the fifth of code `i`.
#[inline(always)]
fn fifth_bits(codes: &[u8; LEN]) -> [u8; 4] {
    // The product moves bit 0 of byte `i` to bit `56 + i`.
    std::array::from_fn(|k| {
        let eight: [u8; 8] = std::array::from_fn(|i| codes[8 * k + i]);
        let bits = u64::from_le_bytes(eight) >> 4 & 0x0101_0101_0101_0101;
        (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    })
}

/// Code `i` of a block's nibbles and, for five-bit formats, fifth bits.
fn code(nibbles: &[u8], fifth: [u8; 4], i: usize) -> u8 {
    let low = if i < 16 { nibbles[i] & 15 } else { nibbles[i - 16] >> 4 };
    low | ((u32::from_le_bytes(fifth) >> i & 1) as u8) << 4
}

pub(super) fn decode_codes(grid: &Grid, zero: i16, nibbles: &[u8], fifth: &[u8], out: &mut [f32]) {
    let fifth = fifth.try_into().unwrap_or([0; 4]);
    for (i, x) in out.iter_mut().enumerate() {
        *x = f32::from(i16::from(code(nibbles, fifth, i)) - zero) * grid.d + grid.m;
    }
}
