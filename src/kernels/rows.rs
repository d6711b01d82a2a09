//! Some rows of a matrix times some rows of input: the inner part of every product.
//!
//! The order of every sum is fixed by the format alone. Floats: sixteen partial sums over the columns, then one tree.
//! Quantized formats: exact integers a block, and one chain of fused multiply-adds over the blocks.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use std::ops::Range;

use super::activations::Activations;
use super::blocks::{self, BlockFormat, SuperBlockFormat};
use super::floats::{self, FloatFormat};
use super::lanes::{Kernel, LANES, Lanes};
use super::matrix::Matrix;
use crate::TensorType;

/// Most tokens for which blocks are unpacked once.
const TOKENS: usize = 2;

/// The rows of the input that take part.
#[derive(Clone, Copy)]
pub(super) enum Tokens<'a> {
    /// The first so many.
    First(usize),
    /// These.
    Listed(&'a [u32]),
}

impl Tokens<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::First(n) => *n,
            Self::Listed(list) => list.len(),
        }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> usize {
        match self {
            Self::First(_) => i,
            Self::Listed(list) => list[i] as usize,
        }
    }
}

/// `out[token][row] = weights[row] . x[token]`, for a range of rows: `out` is `[tokens, rows.len()]`.
pub(super) struct RowsProduct<'a> {
    pub(super) weights: &'a Matrix,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a Activations<'a>,
    pub(super) tokens: Tokens<'a>,
    pub(super) out: &'a mut [f32],
}

impl Kernel for RowsProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        use TensorType as T;
        match self.weights.ty() {
            T::Q2_K => self.super_blocks::<L, blocks::Q2K>(l),
            T::Q3_K => self.super_blocks::<L, blocks::Q3K>(l),
            T::Q4_K => self.super_blocks::<L, blocks::Q4K>(l),
            T::Q5_K => self.super_blocks::<L, blocks::Q5K>(l),
            T::Q6_K => self.super_blocks::<L, blocks::Q6K>(l),
            T::Q4_0 => self.blocks::<L, blocks::Q40>(l),
            T::Q4_1 => self.blocks::<L, blocks::Q41>(l),
            T::Q5_0 => self.blocks::<L, blocks::Q50>(l),
            T::Q5_1 => self.blocks::<L, blocks::Q51>(l),
            T::Q8_0 => self.blocks::<L, blocks::Q80>(l),
            T::MXFP4 => self.blocks::<L, blocks::Mxfp4>(l),
            T::F32 => self.floats_of_file::<L, floats::F32>(l),
            T::F16 => self.floats_of_file::<L, floats::F16>(l),
            T::BF16 => self.floats_of_file::<L, floats::Bf16>(l),
            _ => self.decoded(l),
        }
    }
}

impl RowsProduct<'_> {
    #[inline(always)]
    fn floats_of_file<L: Lanes, W: FloatFormat>(mut self, l: L) {
        let Range { start, end } = self.rows;
        let bytes = &self.weights.bytes()[start * self.weights.row_bytes()..end * self.weights.row_bytes()];
        self.floats::<L, W>(l, bytes);
    }

    /// A type without a kernel of its own: rows are decoded, and are floats then.
    #[inline(always)]
    fn decoded<L: Lanes>(mut self, l: L) {
        let mut bytes = Vec::with_capacity(self.rows.len() * self.weights.cols() * 4);
        let mut row = vec![0.0; self.weights.cols()];
        for r in self.rows.clone() {
            self.weights.decode_row(r, &mut row);
            bytes.extend(row.iter().flat_map(|v| v.to_ne_bytes()));
        }
        self.floats::<L, floats::F32>(l, &bytes);
    }

    #[inline(always)]
    fn super_blocks<L: Lanes, F: SuperBlockFormat>(mut self, l: L) {
        for token in (0..self.tokens.len()).step_by(TOKENS) {
            match self.tokens.len() - token {
                1 => self.super_blocks_of::<L, F, 1>(l, token),
                _ => self.super_blocks_of::<L, F, TOKENS>(l, token),
            }
        }
    }

    /// All rows of super-blocks, for `T` tokens from `token` on.
    #[inline(always)]
    fn super_blocks_of<L: Lanes, F: SuperBlockFormat, const T: usize>(&mut self, l: L, token: usize) {
        let x = self.x.super_blocks();
        let (blocks, bytes) = (self.weights.cols() / 256, self.weights.bytes());
        let ahead = LANES * blocks * F::BYTES;
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            let mut sums = [l.splat(0.0); T];
            for b in 0..blocks {
                let mut codes = [[l.splat_int(0); 4]; T];
                let mut input_sums = [&[0; 16]; T];
                for t in 0..T {
                    let at = self.tokens.row(token + t) * blocks + b;
                    codes[t] = input_codes::<L, F>(l, &x.codes.as_chunks::<256>().0[at]);
                    input_sums[t] = &x.sums.as_chunks::<16>().0[at];
                }
                let (mut products, mut mins) = ([[l.splat_int(0); LANES]; T], [[l.splat_int(0); LANES]; T]);
                let mut factors = [[0; LANES]; 2];
                for r in 0..rows {
                    let start = ((first + r) * blocks + b) * F::BYTES;
                    let block = &bytes[start..][..F::BYTES];
                    for line in (0..F::BYTES).step_by(64) {
                        l.prefetch(bytes.as_ptr().wrapping_add(start + ahead + line));
                    }
                    let (w, scales) = (F::codes(l, block), F::scales(block));
                    for t in 0..T {
                        let offsets = l.dot_words(&scales.offsets, input_sums[t]);
                        let mut product = if F::ZEROS { offsets } else { l.splat_int(0) };
                        for i in 0..4 {
                            product = l.dot_scaled(product, w[i], codes[t][i], &scales.scales, &F::SPREAD[i]);
                        }
                        (products[t][r], mins[t][r]) = (product, offsets);
                    }
                    let [d, dmin] = F::factors(block);
                    (factors[0][r], factors[1][r]) = (d, dmin);
                }
                let d = l.halves(&factors[0]);
                for t in 0..T {
                    let scale = l.splat(x.scales[self.tokens.row(token + t) * blocks + b]);
                    let product = l.int_to_float(l.sum_each(&products[t]));
                    sums[t] = l.mul_add(l.mul(d, scale), product, sums[t]);
                    if F::MINS {
                        let dmin = l.sub(l.splat(0.0), l.halves(&factors[1]));
                        let min = l.int_to_float(l.sum_each(&mins[t]));
                        sums[t] = l.mul_add(l.mul(dmin, scale), min, sums[t]);
                    }
                }
            }
            self.put_lanes(l, first, rows, token, &sums);
        }
    }

    #[inline(always)]
    fn blocks<L: Lanes, F: BlockFormat>(mut self, l: L) {
        for token in (0..self.tokens.len()).step_by(TOKENS) {
            match self.tokens.len() - token {
                1 => self.blocks_of::<L, F, 1>(l, token),
                _ => self.blocks_of::<L, F, TOKENS>(l, token),
            }
        }
    }

    /// All rows of blocks, for `T` tokens from `token` on. Blocks are taken in pairs.
    #[inline(always)]
    fn blocks_of<L: Lanes, F: BlockFormat, const T: usize>(&mut self, l: L, token: usize) {
        let x = self.x.blocks();
        let (blocks, bytes) = (self.weights.cols() / 32, self.weights.bytes());
        let ahead = LANES * blocks * F::BYTES;
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            let mut sums = [l.splat(0.0); T];
            for b in (0..blocks).step_by(2) {
                // The last of an odd number of blocks is paired with itself.
                let second = (b + 1).min(blocks - 1);
                let mut codes = [l.splat_int(0); T];
                for t in 0..T {
                    let at = self.tokens.row(token + t) * blocks;
                    let x = x.codes.as_chunks::<32>().0;
                    // SAFETY: both blocks have 32 codes.
                    codes[t] = unsafe { l.join(x[at + b].as_ptr().cast(), x[at + second].as_ptr().cast()) };
                }
                let mut products = [[l.splat_int(0); LANES]; T];
                let mut factors = [[[0; LANES]; 2]; 2];
                for r in 0..rows {
                    let row = (first + r) * blocks;
                    let pair = [b, second].map(|b| &bytes[(row + b) * F::BYTES..][..F::BYTES]);
                    l.prefetch(pair[0].as_ptr().wrapping_add(ahead));
                    let w = F::codes(l, pair);
                    for t in 0..T {
                        products[t][r] = if F::ZERO == 128 {
                            l.dot_bytes::<true>(l.splat_int(0), w, codes[t])
                        } else {
                            l.dot_bytes::<false>(l.splat_int(0), w, codes[t])
                        };
                    }
                    for (factors, block) in factors.iter_mut().zip(pair) {
                        let [d, m] = F::factors(block);
                        (factors[0][r], factors[1][r]) = (d, m);
                    }
                }
                for t in 0..T {
                    let halves = l.sum_halves_each(&products[t]);
                    for (i, b) in (b..=second).enumerate() {
                        let at = self.tokens.row(token + t) * blocks + b;
                        let total = i32::from(x.sums[2 * at]) + i32::from(x.sums[2 * at + 1]);
                        let scale = l.splat(x.scales[at]);
                        let product = l.add_int(halves[i], l.splat_int(-i32::from(F::ZERO) * total));
                        let d = F::scales(l, &factors[i][0]);
                        sums[t] = l.mul_add(l.mul(d, scale), l.int_to_float(product), sums[t]);
                        if F::OFFSET {
                            let m = l.halves(&factors[i][1]);
                            sums[t] = l.mul_add(l.mul(m, scale), l.splat(total as f32), sums[t]);
                        }
                    }
                }
            }
            self.put_lanes(l, first, rows, token, &sums);
        }
    }

    /// Writes the sums of `rows` rows from row `first` on, a vector for each token from `token` on.
    #[inline(always)]
    fn put_lanes<L: Lanes>(&mut self, l: L, first: usize, rows: usize, token: usize, sums: &[L::Float]) {
        let (stride, at) = (self.rows.len(), first - self.rows.start);
        for (t, sum) in sums.iter().enumerate() {
            self.out[(token + t) * stride + at..][..rows].copy_from_slice(&l.to_array(*sum)[..rows]);
        }
    }
}

/// The codes of a super-block of input, in the order of `F`'s vectors.
#[inline(always)]
fn input_codes<L: Lanes, F: SuperBlockFormat>(l: L, x: &[i8; 256]) -> [L::Int; 4] {
    let mut codes = [l.splat_int(0); 4];
    for (codes, halves) in codes.iter_mut().zip(F::HALVES) {
        // SAFETY: halves are below 8, and have 32 codes each.
        *codes = unsafe { l.join(x.as_ptr().add(32 * halves[0]).cast(), x.as_ptr().add(32 * halves[1]).cast()) };
    }
    codes
}
