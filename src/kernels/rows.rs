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

/// Bytes of weights that are asked for before they are read.
const AHEAD: usize = 2048;

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
        let (mut codes, mut input_sums) = (Vec::with_capacity(blocks * T), Vec::with_capacity(blocks * T));
        for b in 0..blocks {
            for first in first_blocks {
                codes.push(input_codes::<L, F>(l, &x.codes.as_chunks::<256>().0[first + b]));
                input_sums.push(sub_sums::<F>(&x.sums.as_chunks::<16>().0[first + b]));
            }
        }
        let mut products: [Waiting; T] = std::array::from_fn(|_| Waiting::new(blocks));
        let mut mins: [Waiting; T] = std::array::from_fn(|_| Waiting::new(blocks));
        let (mut d, mut dmin) = (Waiting::new(blocks), Waiting::new(blocks));
        for first in self.rows.clone().step_by(LANES) {
            let rows = LANES.min(self.rows.end - first);
            let region = &bytes[first * blocks * F::BYTES..(first + rows) * blocks * F::BYTES];
            let mut b = 0;
            for (step, region) in region.chunks(LANES * F::BYTES).enumerate() {
                let (mut product, mut min) = ([[l.splat_int(0); LANES]; T], [[l.splat_int(0); LANES]; T]);
                // Eight mins are summed in a shorter way than sixteen.
                let mut fours = [[[0; 4]; LANES]; T];
                let mut factors = [[0; LANES]; 2];
                for (i, block) in region.chunks_exact(F::BYTES).enumerate() {
                    fetch_ahead(l, block);
                    let (w, scales) = (F::codes(l, block), F::scales(l, block));
                    for t in 0..T {
                        let mut sum = l.splat_int(0);
                        if F::ZERO != 0 {
                            sum = l.dot_words(&scales.offsets, &input_sums[b * T + t]);
                        } else if F::SUB_LEN == 32 {
                            fours[t][i] = l.dot_eight(&scales.offsets, &input_sums[b * T + t]);
                        } else {
                            min[t][i] = l.dot_words(&scales.offsets, &input_sums[b * T + t]);
                        }
                        for v in 0..4 {
                            sum = l.dot_scaled(sum, w[v], codes[b * T + t][v], &scales.scales, &F::SPREAD[v]);
                        }
                        product[t][i] = sum;
                    }
                    let [d, dmin] = F::factors(block);
                    (factors[0][i], factors[1][i]) = (d, dmin);
                    b = if b + 1 == blocks { 0 } else { b + 1 };
                }
                for t in 0..T {
                    products[t].put(l, step, l.sum_each(&product[t]));
                    if F::MINS {
                        let sums = if F::SUB_LEN == 32 { l.sum_fours(&fours[t]) } else { l.sum_each(&min[t]) };
                        mins[t].put(l, step, sums);
                    }
                }
                d.put_floats(l, step, l.halves(&factors[0]));
                if F::MINS {
                    dmin.put_floats(l, step, l.sub(l.splat(0.0), l.halves(&factors[1])));
                }
            }
            let mut sums = [l.splat(0.0); T];
            for start in (0..blocks).step_by(LANES) {
                let (d, dmin) = (d.columns(l, blocks, start), dmin.columns(l, blocks, start));
                for t in 0..T {
                    let products = products[t].columns(l, blocks, start);
                    let mins = mins[t].columns(l, blocks, start);
                    for j in 0..LANES.min(blocks - start) {
                        let scale = l.splat(x.scales[first_blocks[t] + start + j]);
                        let product = l.int_to_float(products[j]);
                        sums[t] = l.mul_add(l.mul(l.float_of_bits(d[j]), scale), product, sums[t]);
                        if F::MINS {
                            let min = l.int_to_float(mins[j]);
                            sums[t] = l.mul_add(l.mul(l.float_of_bits(dmin[j]), scale), min, sums[t]);
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
                let product = block_products::<L, F, T>(l, region, codes, factors.step(step));
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
                let [d, m] = factors.columns::<L, F>(l, blocks, start);
                for t in 0..T {
                    let products = products[t].columns(l, blocks, start);
                    for j in 0..LANES.min(blocks - start) {
                        let scale = l.splat(x.scales[first_blocks[t] + start + j]);
                        let added = added[t][start + j];
                        let product = if F::OFFSET { products[j] } else { l.add_int(products[j], l.splat_int(added)) };
                        sums[t] = l.mul_add(l.mul(d[j], scale), l.int_to_float(product), sums[t]);
                        if F::OFFSET {
                            sums[t] = l.mul_add(l.mul(m[j], scale), l.splat(added as f32), sums[t]);
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

/// Asks for what lies as far behind `block` as is read while memory answers.
#[inline(always)]
fn fetch_ahead<L: Lanes>(l: L, block: &[u8]) {
    for line in (0..block.len()).step_by(64) {
        l.prefetch(block.as_ptr().wrapping_add(AHEAD + line));
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
    let lines = region.len().div_ceil(64);
    let mut products = [[l.splat_int(0); LANES]; T];
    for i in 0..LANES {
        for line in (i..lines).step_by(LANES) {
            l.prefetch(region.as_ptr().wrapping_add(AHEAD + 64 * line));
        }
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

    /// The bits of sixteen floats.
    #[inline(always)]
    fn put_floats<L: Lanes>(&mut self, l: L, step: usize, x: L::Float) {
        // SAFETY: the array holds 16 numbers.
        unsafe { l.store(self.0.as_chunks_mut::<LANES>().0[step].as_mut_ptr().cast(), x) };
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

    /// Room for those of 32 blocks.
    #[inline(always)]
    fn step(&mut self, step: usize) -> &mut [u16] {
        let len = 2 * LANES * self.each;
        &mut self.bits[step * len..][..len]
    }

    /// Those of sixteen blocks from `start` on, with a row in each lane.
    #[inline(always)]
    fn columns<L: Lanes, F: BlockFormat>(&self, l: L, blocks: usize, start: usize) -> [[L::Float; LANES]; 2] {
        let mut rows = [l.splat_int(0); LANES];
        for (r, row) in rows.iter_mut().enumerate() {
            let from = &self.bits[(r * blocks + start) * self.each..][..LANES * self.each];
            // SAFETY: the slice has 16 numbers of two bytes, or 32.
            *row =
                unsafe { if self.each == 2 { l.load_int(from.as_ptr().cast()) } else { l.load_words(from.as_ptr()) } };
        }
        let columns = l.transpose_words(rows);
        let (mut d, mut m) = ([l.splat(0.0); LANES], [l.splat(0.0); LANES]);
        for j in 0..LANES {
            if self.each == 2 {
                let [first, second] = l.words(columns[j]);
                (d[j], m[j]) = (F::scales(l, &first), l.halves(&second));
            } else {
                d[j] = F::scales(l, &l.words(columns[j])[0]);
            }
        }
        [d, m]
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

/// The sums of a super-block's input, one a sub-block of `F`, from those of 16 elements each.
#[inline(always)]
fn sub_sums<F: SuperBlockFormat>(sums: &[i16; 16]) -> [i16; 16] {
    if F::SUB_LEN == 16 {
        return *sums;
    }
    let mut sub_sums = [0; 16];
    for (to, [a, b]) in sub_sums.iter_mut().zip(sums.as_chunks::<2>().0) {
        *to = a + b;
    }
    sub_sums
}
