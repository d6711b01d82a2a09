//! Some rows of a matrix times some rows of input: the inner part of every product.
//!
//! The order of every sum is fixed by the format alone. Floats: sixteen partial sums over the columns, then one tree.
//! Quantized formats: exact integers a block, and one chain of fused multiply-adds over the blocks.

use std::ops::Range;

use super::activations::{Activations, Quantized};
use super::blocks::{self, Block, BlockFormat, SuperBlock, SuperBlockFormat};
use super::lanes::{Kernel, LANES, Lanes};
use super::matrix::Matrix;
use super::vector::tree_sum;
use crate::TensorType;

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
    fn super_blocks<L: Lanes, F: SuperBlockFormat>(self, l: L) {
        let (x, stride) = (self.x.super_blocks(), self.rows.len());
        let blocks = self.weights.cols() / 256;
        let mut unpacked = SuperBlock::default();
        self.out.fill(0.0);
        for (r, row) in self.rows.clone().enumerate() {
            for (b, block) in self.weights.row(row).chunks_exact(F::BYTES).enumerate() {
                F::unpack(block, &mut unpacked);
                for t in 0..self.tokens.len() {
                    let at = self.tokens.row(t) * blocks + b;
                    let out = &mut self.out[t * stride + r];
                    *out = super_block_step::<L, F>(l, &unpacked, x, at, *out);
                }
            }
        }
    }

    #[inline(always)]
    fn blocks<L: Lanes, F: BlockFormat>(self, l: L) {
        let (x, stride) = (self.x.blocks(), self.rows.len());
        let blocks = self.weights.cols() / 32;
        let mut unpacked = Block::default();
        self.out.fill(0.0);
        for (r, row) in self.rows.clone().enumerate() {
            for (b, block) in self.weights.row(row).chunks_exact(F::BYTES).enumerate() {
                F::unpack(block, &mut unpacked);
                for t in 0..self.tokens.len() {
                    let at = self.tokens.row(t) * blocks + b;
                    let out = &mut self.out[t * stride + r];
                    *out = block_step::<L, F>(l, &unpacked, x, at, *out);
                }
            }
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

#[inline(always)]
fn super_block_step<L: Lanes, F: SuperBlockFormat>(l: L, w: &SuperBlock, x: &Quantized, at: usize, sum: f32) -> f32 {
    let (codes, sums) = (&x.codes.as_chunks::<256>().0[at], &x.sums.as_chunks::<16>().0[at]);
    let scale = x.scales[at];
    let mut product = l.dot_super_block(&w.codes, &w.scales, codes);
    if F::ZEROS {
        product += l.dot_words(&w.zeros, sums);
    }
    let sum = (w.d * scale).mul_add(product as f32, sum);
    if F::MINS {
        let mins = l.dot_words(&w.mins, sums);
        return (-w.dmin * scale).mul_add(mins as f32, sum);
    }
    sum
}

#[inline(always)]
fn block_step<L: Lanes, F: BlockFormat>(l: L, w: &Block, x: &Quantized, at: usize, sum: f32) -> f32 {
    let codes = &x.codes.as_chunks::<32>().0[at];
    let total = i32::from(x.sums[2 * at]) + i32::from(x.sums[2 * at + 1]);
    let product = l.dot_block(&w.codes, codes) - F::ZERO * total;
    let sum = (w.d * x.scales[at]).mul_add(product as f32, sum);
    if F::OFFSET { (w.m * x.scales[at]).mul_add(total as f32, sum) } else { sum }
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
    let mut lanes = [[l.splat(0.0); R]; T];
    let mut step = |k: usize, x: [&[f32; LANES]; T]| {
        for r in 0..R {
            let Some(w) = w[r * padded + k..].first_chunk() else { return };
            let w = l.array(w);
            for t in 0..T {
                lanes[t][r] = l.mul_add(w, l.array(x[t]), lanes[t][r]);
            }
        }
    };
    let chunks = x.map(|x| x.as_chunks::<LANES>());
    for k in 0..chunks[0].0.len() {
        step(k * LANES, chunks.map(|(whole, _)| &whole[k]));
    }
    let whole = chunks[0].0.len() * LANES;
    if whole < padded {
        let mut tails = [[0.0; LANES]; T];
        for (tail, (_, rest)) in tails.iter_mut().zip(chunks) {
            tail[..rest.len()].copy_from_slice(rest);
        }
        step(whole, std::array::from_fn(|t| &tails[t]));
    }
    for (sums, lanes) in sums.iter_mut().zip(lanes) {
        *sums = lanes.map(|lanes| tree_sum(&l.to_array(lanes)));
    }
}
