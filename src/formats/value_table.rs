//! What IQ4_NL and IQ4_XS share: the table of the values that codes stand for, and the search for a scale.

use super::blocks_of_32::LEN;
use super::{TINY, Written};

/// The value of each code: close together near zero, where most weights are.
pub(crate) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A format with codes of [`VALUES`] in sub-blocks of 32.
pub(super) trait OfValues: Written {
    /// Writes a block from the scales of its sub-blocks; to be marked `#[inline(always)]`.
    fn put_block(x: &[f32], scales: &[f32], codes: &impl PutCodes, block: &mut [u8]);
}

/// Writes the codes of a sub-block for a step.
pub(super) trait PutCodes {
    fn put(&self, x: &[f32], step: f32, bytes: &mut [u8]);
}

/// One code after the other: the reference.
pub(super) struct OneByOne;

impl PutCodes for OneByOne {
    fn put(&self, x: &[f32], step: f32, bytes: &mut [u8]) {
        put_codes(x, step, bytes);
    }
}

/// Squares of 32 elements: the weights of elements without importance.
pub(super) fn squares(x: &[f32]) -> [f32; LEN] {
    std::array::from_fn(|i| x[i] * x[i])
}

/// The scale of 32 elements that fits best by weighted error.
pub(super) fn scale(x: &[f32], weights: &[f32; LEN]) -> f32 {
    const TRIALS: i32 = 7;
    let (mut magnitude, mut max) = (0.0, 0.0);
    for &v in x {
        if v.abs() > magnitude {
            (magnitude, max) = (v.abs(), v);
        }
    }
    if magnitude < TINY {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for (&v, &w) in x.iter().zip(weights) {
            let q = f32::from(VALUES[usize::from(nearest_code(inverse * v))]);
            sum_qx += w * q * v;
            sum_q2 += w * q * q;
        }
        (sum_qx, sum_q2)
    };
    let least = f32::from(VALUES[0]);
    let (sum_qx, sum_q2) = sums(1.0 / (-max / least));
    let mut d = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { 0.0 };
    let mut best = d * sum_qx;
    for trial in -TRIALS..=TRIALS {
        let (sum_qx, sum_q2) = sums((trial as f32 + least) / max);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            d = sum_qx / sum_q2;
            best = d * sum_qx;
        }
    }
    d
}

/// Writes the codes of 32 elements for the scale `d`.
pub(super) fn put_codes(x: &[f32], d: f32, bytes: &mut [u8]) {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let (low, high) = x.split_at(LEN / 2);
    for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = nearest_code(inverse * low) | nearest_code(inverse * high) << 4;
    }
}

/// The code whose value is nearest; of two equally near, the greater.
fn nearest_code(x: f32) -> u8 {
    if x <= f32::from(VALUES[0]) {
        return 0;
    }
    let above = VALUES[1..15].iter().take_while(|&&value| x >= f32::from(value)).count() + 1;
    if x - f32::from(VALUES[above - 1]) < f32::from(VALUES[above]) - x { above as u8 - 1 } else { above as u8 }
}

/// The values plus 128.
pub(super) const BIASED: [u8; 16] = {
    let (mut biased, mut i) = ([0; 16], 0);
    while i < 16 {
        biased[i] = VALUES[i] as u8 ^ 0x80;
        i += 1;
    }
    biased
};

/// Decodes nibbles by a table: the low ones are the first half of `out`, the high ones the second.
pub(super) fn put_nibbles(bytes: &[u8], values: &[i8; 16], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(bytes.len());
    for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = scale * f32::from(values[usize::from(byte & 15)]);
        *high = scale * f32::from(values[usize::from(byte >> 4)]);
    }
}
