//! IQ4_NL and IQ4_XS, whose codes stand for the values of a table: the search for a scale, for sixteen sub-blocks at a time.
//!
//! A number is rounded to a value without a search: buckets of equal width hold one threshold between two values each. The bucket
//! gives the threshold and the values below and above it.

use super::super_blocks::greatest;
use super::weighted::{group, weights};
use crate::formats::value_table::{OfValues, PutCodes, VALUES, put_codes};
use crate::formats::{BLOCK, TINY, sum_of_squares};
use crate::simd::LANES;
use crate::simd::lanes::{Lanes, ROUND};

/// Scales tried on each side of the first.
const TRIALS: i8 = 7;
/// The width of a bucket: bucket `b` is from `b * WIDTH` to the next, for `b` from -8 to 7.
const WIDTH: f32 = 13.7;
/// Numbers beyond are in the outermost buckets.
const FAR: f32 = 109.0;
/// The scalar encoder writes blocks with magnitudes from here on: sums may overflow.
const HUGE: f32 = 1e15;

/// For each bucket, in the order of the low four bits of its number: the threshold, and the codes below and above it.
struct Buckets {
    thresholds: [f32; LANES],
    codes: [[f32; LANES]; 2],
}

const BUCKETS: Buckets = {
    let mut buckets = Buckets { thresholds: [0.0; LANES], codes: [[0.0; LANES]; 2] };
    let mut code = 0;
    while code < LANES - 1 {
        // Of two equally near values the greater is taken.
        let threshold = 0.5 * (VALUES[code] as f32 + VALUES[code + 1] as f32);
        let mut bucket = -8;
        while bucket < 7 && (bucket + 1) as f32 * WIDTH <= threshold {
            bucket += 1;
        }
        let at = (bucket & 15) as usize;
        assert!(buckets.codes[1][at] == 0.0, "two thresholds in a bucket");
        buckets.thresholds[at] = threshold;
        buckets.codes[0][at] = code as f32;
        buckets.codes[1][at] = code as f32 + 1.0;
        code += 1;
    }
    // A bucket without a threshold would have no code above.
    let (mut bucket, mut codes) = (-8, 0.0);
    while bucket < 8 {
        let at = (bucket & 15) as usize;
        if buckets.codes[1][at] == 0.0 {
            buckets.codes[0][at] = codes;
            buckets.codes[1][at] = codes;
        }
        codes = buckets.codes[1][at];
        bucket += 1;
    }
    buckets
};

/// Rounds numbers to one of two things for each bucket.
#[derive(Clone, Copy)]
struct Rounding<L: Lanes> {
    thresholds: L::Float,
    below: L::Float,
    above: L::Float,
}

impl<L: Lanes> Rounding<L> {
    /// To `of` of the code.
    #[inline(always)]
    fn new(l: L, of: impl Fn(f32) -> f32) -> Self {
        let [below, above] = BUCKETS.codes.map(|codes| codes.map(&of));
        Self { thresholds: l.array(&BUCKETS.thresholds), below: l.array(&below), above: l.array(&above) }
    }

    #[inline(always)]
    fn of(self, l: L, x: L::Float) -> L::Float {
        let near = l.min(l.max(x, l.splat(-FAR)), l.splat(FAR));
        // No threshold is so near the edge of a bucket that the rounding of this product matters.
        let bucket = l.bits(l.add(l.mul_add(near, l.splat(1.0 / WIDTH), l.splat(-0.5)), l.splat(ROUND)));
        let (below, above) = (l.lanes_at(self.below, bucket), l.lanes_at(self.above, bucket));
        l.select_lt(x, l.lanes_at(self.thresholds, bucket), below, above)
    }
}

/// `sum(weight * q * x)` and `sum(weight * q * q)` for the values `q` nearest to `inverse * x`.
#[inline(always)]
fn sums<L: Lanes>(
    l: L,
    x: &[L::Float; BLOCK],
    weights: &[L::Float; BLOCK],
    inverse: L::Float,
    values: Rounding<L>,
) -> (L::Float, L::Float) {
    let (mut sum_qx, mut sum_q2) = (l.splat(0.0), l.splat(0.0));
    for i in 0..BLOCK {
        let q = values.of(l, l.mul(inverse, x[i]));
        let weighted = l.mul(weights[i], q);
        sum_qx = l.add(sum_qx, l.mul(weighted, x[i]));
        sum_q2 = l.add(sum_q2, l.mul(weighted, q));
    }
    (sum_qx, sum_q2)
}

/// The scale of each lane, and the lanes whose block the scalar encoder has to write.
#[inline(always)]
fn scales<L: Lanes>(l: L, x: &[L::Float; BLOCK], weights: &[L::Float; BLOCK], values: Rounding<L>) -> (L::Float, u16) {
    let zero = l.splat(0.0);
    let (magnitude, max) = greatest(l, x);
    let least = f32::from(VALUES[0]);
    let mut usual = l.lt(magnitude, l.splat(HUGE));
    for i in 0..BLOCK {
        // Not where it is no number.
        usual = l.both(usual, l.lt(l.abs(x[i]), l.splat(HUGE)));
    }
    let first = l.div(l.splat(1.0), l.div(l.mul(l.splat(-1.0), max), l.splat(least)));
    let (sum_qx, sum_q2) = sums(l, x, weights, first, values);
    let mut scale = l.select(l.lt(zero, sum_q2), l.div(sum_qx, sum_q2), zero);
    let mut best = l.mul(scale, sum_qx);
    for trial in -TRIALS..=TRIALS {
        let inverse = l.div(l.splat(f32::from(trial) + least), max);
        let (sum_qx, sum_q2) = sums(l, x, weights, inverse, values);
        let better = l.both(l.lt(zero, sum_q2), l.lt(l.mul(best, sum_q2), l.mul(sum_qx, sum_qx)));
        scale = l.select(better, l.div(sum_qx, sum_q2), scale);
        best = l.select(better, l.mul(scale, sum_qx), best);
    }
    (l.select(l.lt(magnitude, l.splat(TINY)), zero, scale), !l.mask_bits(usual))
}

/// Sixteen codes at a time.
struct SideBySide<L: Lanes> {
    l: L,
    codes: Rounding<L>,
}

impl<L: Lanes> PutCodes for SideBySide<L> {
    #[inline(always)]
    fn put(&self, x: &[f32], step: f32, bytes: &mut [u8]) {
        let l = self.l;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        if !inverse.is_finite() {
            return put_codes(x, step, bytes);
        }
        let inverse = l.splat(inverse);
        let mut halves = [[0; LANES]; 2];
        for (half, x) in halves.iter_mut().zip(x.as_chunks::<LANES>().0) {
            l.put_bytes(self.codes.of(l, l.mul(inverse, l.array(x))), half);
        }
        for ((byte, low), high) in bytes.iter_mut().zip(halves[0]).zip(halves[1]) {
            *byte = low | high << 4;
        }
    }
}

/// Encodes blocks.
#[inline(always)]
pub(in crate::formats) fn encode<L: Lanes, F: OfValues>(l: L, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    const GROUP: usize = LANES * BLOCK;
    let (len, bytes) = (F::TY.block_len(), F::TY.block_bytes());
    let codes = SideBySide { l, codes: Rounding::new(l, |code| code) };
    let values = Rounding::new(l, |code| f32::from(VALUES[code as usize]));
    for (i, (x, out)) in x.chunks(GROUP).zip(out.chunks_mut(F::TY.row_bytes(GROUP))).enumerate() {
        let lanes: [L::Float; BLOCK] = group(l, x);
        let importance = importance.map(|importance| &importance[i * GROUP..][..x.len()]);
        let weights = match importance {
            None => squares(l, &lanes),
            Some(importance) => {
                let mut mean_squares = [0.0; LANES];
                for (x, lanes) in x.chunks_exact(len).zip(mean_squares.chunks_exact_mut(len / BLOCK)) {
                    lanes.fill(sum_of_squares(x) * (2.0 / len as f32));
                }
                weights(l, &lanes, &group(l, importance), l.array(&mean_squares))
            }
        };
        let (found, needs_scalar) = scales(l, &lanes, &weights, values);
        let found = l.to_array(found);
        for (j, (x, block)) in x.chunks_exact(len).zip(out.chunks_exact_mut(bytes)).enumerate() {
            let (first, count) = (j * len / BLOCK, len / BLOCK);
            if needs_scalar >> first & (u16::MAX >> (LANES - count)) != 0 {
                F::encode_block(x, importance.map(|importance| &importance[j * len..][..len]), block);
                continue;
            }
            F::put_block(x, &found[first..][..count], &codes, block);
        }
    }
}

/// The weights of elements without importance.
#[inline(always)]
fn squares<L: Lanes>(l: L, x: &[L::Float; BLOCK]) -> [L::Float; BLOCK] {
    let mut squares = *x;
    for i in 0..BLOCK {
        squares[i] = l.mul(x[i], x[i]);
    }
    squares
}
