//! Some rows of a matrix times some rows of input: the inner part of every product.
//!
//! The order of every sum is fixed by the format alone. Floats: sixteen partial sums over the columns, then one tree.
//! Quantized formats: exact integers a block, and one chain of fused multiply-adds over the blocks.

#![allow(unsafe_code, reason = "vector loads in the innermost loop")]

use std::ops::Range;

use super::activations::{Activations, Quantized};
use super::blocks::{self, Block, BlockFormat, SuperBlock, SuperBlockFormat};
use super::lanes::{Kernel, LANES, Lanes};
use super::matrix::Matrix;
use crate::TensorType;

/// Most tokens for which blocks are unpacked once.
const TOKENS: usize = 4;

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
            _ => self.floats(l),
        }
    }
}

impl RowsProduct<'_> {
    #[inline(always)]
    fn super_blocks<L: Lanes, F: SuperBlockFormat>(mut self, l: L) {
        let x = self.x.super_blocks();
        let (blocks, bytes) = (self.weights.cols() / 256, self.weights.bytes());
        let mut w: [SuperBlock; LANES] = std::array::from_fn(|_| SuperBlock::default());
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            for start in (0..self.tokens.len()).step_by(TOKENS) {
                let tokens = TOKENS.min(self.tokens.len() - start);
                let mut sums = [l.splat(0.0); TOKENS];
                for b in 0..blocks {
                    for (r, w) in w[..rows].iter_mut().enumerate() {
                        F::unpack(l, &bytes[((first + r) * blocks + b) * F::BYTES..][..F::BYTES], w);
                    }
                    for (t, sum) in sums[..tokens].iter_mut().enumerate() {
                        *sum = super_block_step::<L, F>(l, &w, x, self.tokens.row(start + t) * blocks + b, *sum);
                    }
                }
                self.put(l, first, rows, start, &sums[..tokens]);
            }
        }
    }

    #[inline(always)]
    fn blocks<L: Lanes, F: BlockFormat>(mut self, l: L) {
        let x = self.x.blocks();
        let (blocks, bytes) = (self.weights.cols() / 32, self.weights.bytes());
        let mut w: [Block; LANES] = std::array::from_fn(|_| Block::default());
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            for start in (0..self.tokens.len()).step_by(TOKENS) {
                let tokens = TOKENS.min(self.tokens.len() - start);
                let mut sums = [l.splat(0.0); TOKENS];
                for b in 0..blocks {
                    for (r, w) in w[..rows].iter_mut().enumerate() {
                        F::unpack(l, &bytes[((first + r) * blocks + b) * F::BYTES..][..F::BYTES], w);
                    }
                    for (t, sum) in sums[..tokens].iter_mut().enumerate() {
                        *sum = block_step::<L, F>(l, &w, x, self.tokens.row(start + t) * blocks + b, *sum);
                    }
                }
                self.put(l, first, rows, start, &sums[..tokens]);
            }
        }
    }

    /// Writes the sums of `rows` rows from row `first` on, a vector for each token from `token` on.
    #[inline(always)]
    fn put<L: Lanes>(&mut self, l: L, first: usize, rows: usize, token: usize, sums: &[L::Float]) {
        let (stride, at) = (self.rows.len(), first - self.rows.start);
        for (t, sum) in sums.iter().enumerate() {
            self.out[(token + t) * stride + at..][..rows].copy_from_slice(&l.to_array(*sum)[..rows]);
        }
    }

    /// Rows become floats, a few at a time, and meet a few tokens at a time.
    #[inline(always)]
    fn floats<L: Lanes>(self, l: L) {
        const ROWS: usize = 4;
        let cols = self.weights.cols();
        let padded = cols.next_multiple_of(LANES);
        let mut decoded = vec![0.0; ROWS * padded];
        let (stride, tokens) = (self.rows.len(), self.tokens.len());
        for first in self.rows.clone().step_by(ROWS) {
            let rows = ROWS.min(self.rows.end - first);
            for (row, to) in (first..first + rows).zip(decoded.chunks_exact_mut(padded)) {
                decode_row(l, self.weights.ty(), self.weights.row(row), &mut to[..cols]);
            }
            let at = first - self.rows.start;
            let mut t = 0;
            while t < tokens {
                let step = if tokens - t >= 4 && L::WIDE { 4 } else { (tokens - t).min(2) };
                let row = |i: usize| self.x.row(self.tokens.row(t + i));
                let mut sums = [[0.0; ROWS]; 4];
                match step {
                    4 => dot_tile::<L, ROWS, 4>(l, &decoded, [row(0), row(1), row(2), row(3)], &mut sums),
                    2 => dot_tile::<L, ROWS, 2>(l, &decoded, [row(0), row(1)], &mut sums),
                    _ => dot_tile::<L, ROWS, 1>(l, &decoded, [row(0)], &mut sums),
                }
                for (i, sums) in sums[..step].iter().enumerate() {
                    self.out[(t + i) * stride + at..][..rows].copy_from_slice(&sums[..rows]);
                }
                t += step;
            }
        }
    }
}

/// One super-block further, for sixteen rows and one token.
#[inline(always)]
fn super_block_step<L: Lanes, F: SuperBlockFormat>(
    l: L,
    w: &[SuperBlock; LANES],
    x: &Quantized,
    at: usize,
    sum: L::Float,
) -> L::Float {
    let (codes, sums) = (&x.codes.as_chunks::<256>().0[at], &x.sums.as_chunks::<16>().0[at]);
    let scale = l.splat(x.scales[at]);
    let (mut d, mut dmin) = ([0.0; LANES], [0.0; LANES]);
    for (r, w) in w.iter().enumerate() {
        (d[r], dmin[r]) = (w.d, -w.dmin);
    }
    let product = l.dot_super_blocks(w, codes, sums, F::ZEROS);
    let sum = l.mul_add(l.mul(l.array(&d), scale), product, sum);
    if F::MINS { l.mul_add(l.mul(l.array(&dmin), scale), l.dot_mins(w, sums), sum) } else { sum }
}

/// One block further, for sixteen rows and one token.
#[inline(always)]
fn block_step<L: Lanes, F: BlockFormat>(l: L, w: &[Block; LANES], x: &Quantized, at: usize, sum: L::Float) -> L::Float {
    let codes = &x.codes.as_chunks::<32>().0[at];
    let total = i32::from(x.sums[2 * at]) + i32::from(x.sums[2 * at + 1]);
    let scale = l.splat(x.scales[at]);
    let (mut d, mut m) = ([0.0; LANES], [0.0; LANES]);
    for (r, w) in w.iter().enumerate() {
        (d[r], m[r]) = (w.d, w.m);
    }
    let product = l.dot_blocks(w, codes, F::ZERO * total);
    let sum = l.mul_add(l.mul(l.array(&d), scale), product, sum);
    if F::OFFSET { l.mul_add(l.mul(l.array(&m), scale), l.splat(total as f32), sum) } else { sum }
}

/// Bytes of a row as floats.
#[inline(always)]
fn decode_row<L: Lanes>(l: L, ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    match ty {
        TensorType::F16 => {
            let (whole, tail) = bytes.as_chunks::<{ 2 * LANES }>();
            let (out, rest) = out.as_chunks_mut::<LANES>();
            for (bytes, out) in whole.iter().zip(out) {
                *out = l.to_array(l.half_array(bytes));
            }
            crate::quant::decode(ty, tail, rest);
        }
        TensorType::BF16 => {
            for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        TensorType::F32 => {
            for (bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        _ => crate::quant::decode(ty, bytes, out),
    }
}

/// `sums[token][row]` of `R` rows of `w`, padded with zeros to whole lanes, and `T` rows of `x`.
#[inline(always)]
fn dot_tile<L: Lanes, const R: usize, const T: usize>(l: L, w: &[f32], x: [&[f32]; T], sums: &mut [[f32; R]; 4]) {
    let padded = w.len() / R;
    let (n, whole) = (x[0].len(), x[0].len() / LANES);
    assert!(padded >= n && w.len() == R * padded && x.iter().all(|x| x.len() == n));
    let mut lanes = [[l.splat(0.0); R]; T];
    for k in 0..whole {
        for r in 0..R {
            // SAFETY: `R` rows of `padded` floats lie in `w`, and `whole` vectors in each.
            let w = unsafe { l.load(w.as_ptr().add(r * padded + k * LANES)) };
            for t in 0..T {
                // SAFETY: each row of `x` is as long as the first, which has `whole` vectors.
                let x = unsafe { l.load(x[t].as_ptr().add(k * LANES)) };
                lanes[t][r] = l.mul_add(w, x, lanes[t][r]);
            }
        }
    }
    if whole * LANES < n {
        for t in 0..T {
            let mut tail = [0.0; LANES];
            tail[..n - whole * LANES].copy_from_slice(&x[t][whole * LANES..]);
            for r in 0..R {
                let mut w_tail = [0.0; LANES];
                w_tail[..n - whole * LANES].copy_from_slice(&w[r * padded + whole * LANES..][..n - whole * LANES]);
                lanes[t][r] = l.mul_add(l.array(&w_tail), l.array(&tail), lanes[t][r]);
            }
        }
    }
    for t in 0..T {
        for r in 0..R {
            sums[t][r] = l.sum(lanes[t][r]);
        }
    }
}
