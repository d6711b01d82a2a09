//! Some rows of a matrix times some rows of input: the inner part of every product.
//!
//! The order of every sum is fixed by the format alone. Floats: sixteen partial sums over the columns, then one tree.
//! Quantized formats: exact integers a block, and one chain of fused multiply-adds over the blocks.

use std::ops::Range;

use super::activations::{Activations, Quantized};
use super::blocks::{self, Block, BlockFormat, SuperBlock, SuperBlockFormat};
use super::floats::{self, FloatFormat};
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
                self.put_lanes(l, first, rows, start, &sums[..tokens]);
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
                self.put_lanes(l, first, rows, start, &sums[..tokens]);
            }
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
