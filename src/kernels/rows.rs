//! Some rows of a matrix times some rows of input: the inner part of every product.
//!
//! The order of every sum is fixed by the format alone. Floats: sixteen partial sums over the columns, then one tree.
//! Quantized formats: exact integers a block, and one chain of fused multiply-adds over the blocks.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use std::ops::Range;

use super::activations::{Activations, Quantized};
use super::blocks::{self, BlockFormat, SuperBlockFormat};
use super::floats::{self, FloatFormat};
use super::lanes::{Kernel, LANES, Lanes};
use super::matrix::Matrix;
use crate::TensorType;

/// Most tokens for which blocks are unpacked once.
const TOKENS: usize = 2;

/// How many bytes before they are read weights are asked for.
const AHEAD: usize = 8192;

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

/// `out[token][row] = weights[row] . x[token]`, for a range of rows: `out` is `[tokens, stride]`.
pub(super) struct RowsProduct<'a> {
    pub(super) weights: &'a Matrix,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a Activations<'a>,
    pub(super) tokens: Tokens<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
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
    ///
    /// The blocks of sixteen rows are read in the order in which they lie, as fast as memory gives them; their exact
    /// products wait until all are there, and are then summed with a row in each lane.
    #[inline(always)]
    fn super_blocks_of<L: Lanes, F: SuperBlockFormat, const T: usize>(&mut self, l: L, token: usize) {
        let x = self.x.super_blocks();
        let (blocks, bytes) = (self.weights.cols() / 256, self.weights.bytes());
        let first_blocks: [usize; T] = std::array::from_fn(|t| self.tokens.row(token + t) * blocks);
        let inputs = super_inputs::<L, F, T>(l, x, first_blocks, blocks);
        let mut products: [Waiting; T] = std::array::from_fn(|_| Waiting::new(blocks));
        let mut mins: [Waiting; T] = std::array::from_fn(|_| Waiting::new(if F::MINS { blocks } else { 0 }));
        let mut factors = WaitingFactors::new(blocks, if F::MINS { 2 } else { 1 });
        let mut last = vec![0; LANES * F::BYTES];
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            let region = &bytes[first * blocks * F::BYTES..(first + rows) * blocks * F::BYTES];
            let mut b = 0;
            for (step, region) in region.chunks(LANES * F::BYTES).enumerate() {
                let region = whole(region, &mut last);
                let factors = factors.blocks(step * LANES, LANES);
                let [product, min] = super_products::<L, F, T>(l, region, &inputs[b * T..][..LANES * T], factors);
                for t in 0..T {
                    products[t].put(l, step, product[t]);
                    if F::MINS {
                        mins[t].put(l, step, min[t]);
                    }
                }
                b = (b + LANES) % blocks;
            }
            let mut sums = [l.splat(0.0); T];
            for start in (0..blocks).step_by(LANES) {
                let factors = factors.columns(l, blocks, start);
                for t in 0..T {
                    let products = products[t].columns(l, blocks, start);
                    let mins = if F::MINS { mins[t].columns(l, blocks, start) } else { products };
                    for j in 0..LANES.min(blocks - start) {
                        let scale = l.splat(x.scales[first_blocks[t] + start + j]);
                        let [d, dmin] = &factors[j];
                        let product = l.int_to_float(products[j]);
                        sums[t] = l.mul_add(l.mul(l.halves(d), scale), product, sums[t]);
                        if F::MINS {
                            let dmin = l.sub(l.splat(0.0), l.halves(dmin));
                            sums[t] = l.mul_add(l.mul(dmin, scale), l.int_to_float(mins[j]), sums[t]);
                        }
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

    /// All rows of blocks, for `T` tokens from `token` on: as super-blocks, but in pairs, some of which span two rows if
    /// rows have an odd number of blocks.
    #[inline(always)]
    fn blocks_of<L: Lanes, F: BlockFormat, const T: usize>(&mut self, l: L, token: usize) {
        let x = self.x.blocks();
        let (blocks, bytes) = (self.weights.cols() / 32, self.weights.bytes());
        let first_blocks: [usize; T] = std::array::from_fn(|t| self.tokens.row(token + t) * blocks);
        let period = if blocks.is_multiple_of(2) { blocks / 2 } else { blocks };
        let codes = pairs_of_codes(l, x, first_blocks, blocks, period + LANES);
        // What is added to the products, or multiplied by the weights' offsets.
        let added: [Vec<i32>; T] = std::array::from_fn(|t| {
            let sums = x.sums.as_chunks::<2>().0[first_blocks[t]..][..blocks].iter();
            let factor = if F::OFFSET { 1 } else { -i32::from(F::ZERO) };
            sums.map(|&[a, b]| factor * (i32::from(a) + i32::from(b))).collect()
        });
        let mut products: [Waiting; T] = std::array::from_fn(|_| Waiting::new(blocks));
        let mut factors = WaitingFactors::new(blocks, if F::OFFSET { 2 } else { 1 });
        let mut last = vec![0; 2 * LANES * F::BYTES];
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            let region = &bytes[first * blocks * F::BYTES..(first + rows) * blocks * F::BYTES];
            let mut pair = 0;
            for (step, region) in region.chunks(2 * LANES * F::BYTES).enumerate() {
                let region = whole(region, &mut last);
                let codes = &codes[pair * T..][..LANES * T];
                let factors = factors.blocks(2 * step * LANES, 2 * LANES);
                let product = block_products::<L, F, T>(l, region, codes, factors);
                for t in 0..T {
                    let [low, high] = l.sum_halves_each(&product[t]);
                    let [first, second] = l.interleave(low, high);
                    products[t].put(l, 2 * step, first);
                    products[t].put(l, 2 * step + 1, second);
                }
                pair = (pair + LANES) % period;
            }
            let mut sums = [l.splat(0.0); T];
            for start in (0..blocks).step_by(LANES) {
                let factors = factors.columns(l, blocks, start);
                for t in 0..T {
                    let products = products[t].columns(l, blocks, start);
                    for j in 0..LANES.min(blocks - start) {
                        let scale = l.splat(x.scales[first_blocks[t] + start + j]);
                        let [d, m] = &factors[j];
                        let added = added[t][start + j];
                        let product = if F::OFFSET { products[j] } else { l.add_int(products[j], l.splat_int(added)) };
                        sums[t] = l.mul_add(l.mul(F::scales(l, d), scale), l.int_to_float(product), sums[t]);
                        if F::OFFSET {
                            sums[t] = l.mul_add(l.mul(l.halves(m), scale), l.splat(added as f32), sums[t]);
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
        let (stride, at) = (self.stride, first - self.rows.start);
        for (t, sum) in sums.iter().enumerate() {
            self.out[(token + t) * stride + at..][..rows].copy_from_slice(&l.to_array(*sum)[..rows]);
        }
    }
}

/// Asks for the `i`th of sixteen shares of what lies [`AHEAD`] of `region`.
#[inline(always)]
fn fetch_ahead<L: Lanes>(l: L, region: &[u8], i: usize) {
    let ahead = region.as_ptr().wrapping_add(AHEAD);
    let share = region.len() / (64 * LANES);
    for line in i * share..(i + 1) * share {
        l.prefetch_far(ahead.wrapping_add(64 * line));
    }
}

/// Asks for the lines that [`fetch_ahead`] leaves out.
#[inline(always)]
fn fetch_rest_ahead<L: Lanes>(l: L, region: &[u8]) {
    let ahead = region.as_ptr().wrapping_add(AHEAD);
    for line in region.len() / (64 * LANES) * LANES..region.len().div_ceil(64) {
        l.prefetch_far(ahead.wrapping_add(64 * line));
    }
}

/// `part`, or a copy of it with more behind it of any value.
#[inline(always)]
fn whole<'a>(part: &'a [u8], room: &'a mut [u8]) -> &'a [u8] {
    if part.len() == room.len() {
        return part;
    }
    room[..part.len()].copy_from_slice(part);
    room
}

/// What a super-block of weights meets of one token.
struct SuperInput<L: Lanes> {
    codes: [L::Int; 4],
    /// Of the codes of a sub-block; where there are eight, they lie behind eight zeros, as mins do behind scales.
    sums: [i16; 16],
}

/// The input of each block for `T` tokens, starting over where a row ends, and of sixteen blocks more.
#[inline(always)]
fn super_inputs<L: Lanes, F: SuperBlockFormat, const T: usize>(
    l: L,
    x: &Quantized,
    first_blocks: [usize; T],
    blocks: usize,
) -> Vec<SuperInput<L>> {
    let mut inputs = Vec::with_capacity((blocks + LANES) * T);
    for b in 0..blocks + LANES {
        for first in first_blocks {
            let block = first + b % blocks;
            let codes = input_codes::<L, F>(l, &x.codes.as_chunks::<256>().0[block]);
            inputs.push(SuperInput { codes, sums: sub_sums::<F>(&x.sums.as_chunks::<16>().0[block]) });
        }
    }
    inputs
}

/// The products of sixteen super-blocks and `T` tokens, and those of their mins. Factors are put down in their order.
#[inline(always)]
fn super_products<L: Lanes, F: SuperBlockFormat, const T: usize>(
    l: L,
    region: &[u8],
    inputs: &[SuperInput<L>],
    factors: &mut [u16],
) -> [[L::Int; T]; 2] {
    let each = if F::MINS { 2 } else { 1 };
    assert!(region.len() == LANES * F::BYTES && inputs.len() == LANES * T && factors.len() == LANES * each);
    let (mut product, mut min) = ([[l.splat_int(0); LANES]; T], [[l.splat_int(0); LANES]; T]);
    // Eight mins are summed in a shorter way than sixteen.
    let mut fours = [[[0; 4]; LANES]; T];
    fetch_rest_ahead(l, region);
    for (i, block) in region.chunks_exact(F::BYTES).enumerate() {
        fetch_ahead(l, region, i);
        let (w, scales) = (F::codes(l, block), F::scales(l, block));
        for t in 0..T {
            let x = &inputs[i * T + t];
            let mut sum = l.splat_int(0);
            if F::ZERO != 0 {
                sum = l.dot_words(&scales.offsets, &x.sums);
            } else if F::SUB_LEN == 32 {
                fours[t][i] = l.dot_last_eight(&scales.scales, &x.sums);
            } else {
                min[t][i] = l.dot_words(&scales.offsets, &x.sums);
            }
            for v in 0..4 {
                sum = l.dot_scaled(sum, w[v], x.codes[v], &scales.scales, &F::SPREAD[v]);
            }
            product[t][i] = sum;
        }
        factors[i * each..][..each].copy_from_slice(&F::factors(block)[..each]);
    }
    let (mut products, mut mins) = ([l.splat_int(0); T], [l.splat_int(0); T]);
    for t in 0..T {
        products[t] = l.sum_each(&product[t]);
        if F::MINS {
            mins[t] = if F::SUB_LEN == 32 { l.sum_fours(&fours[t]) } else { l.sum_each(&min[t]) };
        }
    }
    [products, mins]
}

/// The codes of `count` pairs of neighbouring blocks of each token's input, starting over where a row ends.
#[inline(always)]
fn pairs_of_codes<L: Lanes, const T: usize>(
    l: L,
    x: &Quantized,
    first_blocks: [usize; T],
    blocks: usize,
    count: usize,
) -> Vec<L::Int> {
    let x = x.codes.as_chunks::<32>().0;
    let mut codes = Vec::with_capacity(count * T);
    for pair in 0..count {
        for first in first_blocks {
            let (low, high) = (&x[first + 2 * pair % blocks], &x[first + (2 * pair + 1) % blocks]);
            // SAFETY: both blocks have 32 codes.
            codes.push(unsafe { l.join(low.as_ptr().cast(), high.as_ptr().cast()) });
        }
    }
    codes
}

/// The products of sixteen pairs of blocks, whose factors are put down in their order.
#[inline(always)]
fn block_products<L: Lanes, F: BlockFormat, const T: usize>(
    l: L,
    region: &[u8],
    codes: &[L::Int],
    factors: &mut [u16],
) -> [[L::Int; LANES]; T] {
    let each = if F::OFFSET { 2 } else { 1 };
    assert!(region.len() == 2 * LANES * F::BYTES && codes.len() == LANES * T && factors.len() == 2 * LANES * each);
    let mut products = [[l.splat_int(0); LANES]; T];
    fetch_rest_ahead(l, region);
    for i in 0..LANES {
        fetch_ahead(l, region, i);
        let two = &region[2 * i * F::BYTES..][..2 * F::BYTES];
        let two = [&two[..F::BYTES], &two[F::BYTES..]];
        let w = F::codes(l, two);
        for t in 0..T {
            let x = codes[i * T + t];
            products[t][i] = if F::ZERO == 128 {
                l.dot_bytes::<true>(l.splat_int(0), w, x)
            } else {
                l.dot_bytes::<false>(l.splat_int(0), w, x)
            };
        }
        for (half, block) in two.into_iter().enumerate() {
            factors[(2 * i + half) * each..][..each].copy_from_slice(&F::factors(block)[..each]);
        }
    }
    products
}

/// Numbers of sixteen rows, as they were come upon: `[rows, blocks]`, and room for two vectors more.
struct Waiting(Vec<i32>);

impl Waiting {
    fn new(blocks: usize) -> Self {
        Self(vec![0; (blocks + 2) * LANES])
    }

    /// Sixteen numbers.
    #[inline(always)]
    fn put<L: Lanes>(&mut self, l: L, step: usize, x: L::Int) {
        // SAFETY: the array holds 16 numbers.
        unsafe { l.store_int(self.0.as_chunks_mut::<LANES>().0[step].as_mut_ptr(), x) };
    }

    /// Sixteen columns from `start` on, with a row in each lane. What there is not is of any value.
    #[inline(always)]
    fn columns<L: Lanes>(&self, l: L, blocks: usize, start: usize) -> [L::Int; LANES] {
        let mut rows = [l.splat_int(0); LANES];
        for (r, row) in rows.iter_mut().enumerate() {
            let from = &self.0[r * blocks + start..][..LANES];
            // SAFETY: the slice has 16 numbers.
            *row = unsafe { l.load_int(from.as_ptr()) };
        }
        l.transpose_words(rows)
    }
}

/// The bits of the factors of sixteen rows, one or two a block, likewise.
struct WaitingFactors {
    bits: Vec<u16>,
    each: usize,
}

impl WaitingFactors {
    fn new(blocks: usize, each: usize) -> Self {
        Self { bits: vec![0; (blocks + 2) * LANES * each], each }
    }

    /// Room for those of `count` blocks from block `first` on, counted over all rows.
    #[inline(always)]
    fn blocks(&mut self, first: usize, count: usize) -> &mut [u16] {
        &mut self.bits[first * self.each..][..count * self.each]
    }

    /// Those of sixteen blocks from `start` on, with a row in each lane: first factors, and second ones if there are.
    #[inline(always)]
    fn columns<L: Lanes>(&self, l: L, blocks: usize, start: usize) -> [[[u16; LANES]; 2]; LANES] {
        let mut rows = [l.splat_int(0); LANES];
        for (r, row) in rows.iter_mut().enumerate() {
            let from = &self.bits[(r * blocks + start) * self.each..][..LANES * self.each];
            // SAFETY: the slice has 16 numbers of two bytes, or 32.
            *row =
                unsafe { if self.each == 2 { l.load_int(from.as_ptr().cast()) } else { l.load_words(from.as_ptr()) } };
        }
        let columns = l.transpose_words(rows);
        let mut words = [[[0; LANES]; 2]; LANES];
        for j in 0..LANES {
            words[j] = l.words(columns[j]);
        }
        words
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

/// The sums of a super-block's input, one a sub-block of `F` as [`SuperInput`] has them, from those of 16 elements each.
#[inline(always)]
fn sub_sums<F: SuperBlockFormat>(sums: &[i16; 16]) -> [i16; 16] {
    if F::SUB_LEN == 16 {
        return *sums;
    }
    let mut sub_sums = [0; 16];
    for (to, [a, b]) in sub_sums[8..].iter_mut().zip(sums.as_chunks::<2>().0) {
        *to = a + b;
    }
    sub_sums
}
