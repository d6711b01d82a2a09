//! Products of some rows of a matrix with some rows of input, for few tokens.
//!
//! The order of every sum is fixed by the format alone. Floats: sixteen partial sums over the columns, then one tree.
//! Quantized formats: an exact integer sum for each block, and one chain of fused multiply-adds over the blocks.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

mod long_blocks;

use std::marker::PhantomData;
use std::ops::Range;

pub(super) use long_blocks::{LongBlockRows, add_two};

use super::activations::Activations;
use super::input::{Input, Quantized, Tokens};
use super::matrix::{Matrix, ReadAhead};
use crate::formats::view::{BlockFormat, BlockShape, Heads, SubScales, SuperBlockFormat, SuperBlockShape};
use crate::kernels::scratch::List;
use crate::simd::LANES;
use crate::simd::integers::Integers;
use crate::simd::lanes::{Kernel, Lanes};

/// Most tokens for which blocks are unpacked once.
const TOKENS: usize = 2;

/// `out[token][row] = weights[row] . x[token]`, for a range of rows: `out` is `[tokens, stride]`.
pub(super) struct RowsProduct<'a> {
    pub(super) weights: &'a Matrix,
    pub(super) rows: Range<usize>,
    pub(super) x: &'a Activations<'a>,
    pub(super) tokens: Tokens<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) ahead: ReadAhead<'a>,
}

/// A product with rows of super-blocks.
pub(super) struct SuperBlockRows<'a, F>(pub(super) RowsProduct<'a>, pub(super) PhantomData<F>);

impl<F: SuperBlockFormat> Kernel for SuperBlockRows<'_, F> {
    type Output = ();
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        self.0.super_blocks::<L, F>(l);
    }
}

/// A product with rows of blocks.
pub(super) struct BlockRows<'a, F>(pub(super) RowsProduct<'a>, pub(super) PhantomData<F>);

impl<F: BlockFormat> Kernel for BlockRows<'_, F> {
    type Output = ();
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        self.0.blocks::<L, F>(l);
    }
}

impl<'a> RowsProduct<'a> {
    #[inline(always)]
    fn super_blocks<L: Lanes, F: SuperBlockFormat>(mut self, l: L) {
        let tokens = if L::TILES { TOKENS } else { 1 };
        for token in (0..self.tokens.len()).step_by(tokens) {
            if L::TILES && self.tokens.len() - token >= TOKENS {
                self.super_blocks_of::<L, F, TOKENS>(l, token);
            } else {
                self.super_blocks_of::<L, F, 1>(l, token);
            }
        }
    }

    /// All rows of super-blocks, for `T` tokens from `token` on. Sixteen rows are processed side by side, so that their exact
    /// products are summed with one row in each lane.
    #[inline(always)]
    fn super_blocks_of<L: Lanes, F: SuperBlockFormat, const T: usize>(&mut self, l: L, token: usize) {
        let x = self.x.prepared(Input::SuperBlocks);
        let blocks = self.weights.cols() / 256;
        let first_blocks: [usize; T] = std::array::from_fn(|t| self.tokens.row(token + t) * blocks);
        let inputs = super_inputs::<L, F, T>(l, x, first_blocks, blocks);
        for first in self.rows.clone().step_by(LANES) {
            let rows = self.row_group(l, first);
            let mut sums = [l.splat(0.0); T];
            for (b, inputs) in inputs.as_chunks::<T>().0.iter().enumerate() {
                // SAFETY: a row has so many blocks.
                let (products, mins, [d, dmin]) = unsafe { super_products::<L, F, T>(l, &rows, b, inputs) };
                for t in 0..T {
                    let scale = l.splat(x.scales[first_blocks[t] + b]);
                    let product = l.int_to_float(products[t]);
                    sums[t] = if F::Shape::MINS {
                        let minus_dmin = l.sub(l.splat(0.0), dmin);
                        let term = l.mul_add(minus_dmin, l.int_to_float(mins[t]), l.mul(d, product));
                        l.mul_add(term, scale, sums[t])
                    } else {
                        l.mul_add(l.mul(d, scale), product, sums[t])
                    };
                }
            }
            self.put_lanes(l, first, token, &sums);
        }
    }

    #[inline(always)]
    fn blocks<L: Lanes, F: BlockFormat>(mut self, l: L) {
        let tokens = if L::TILES { TOKENS } else { 1 };
        for token in (0..self.tokens.len()).step_by(tokens) {
            if L::TILES && self.tokens.len() - token >= TOKENS {
                self.blocks_of::<L, F, TOKENS>(l, token);
            } else {
                self.blocks_of::<L, F, 1>(l, token);
            }
        }
    }

    /// All rows of blocks, for `T` tokens from `token` on: like super-blocks, but two or four blocks at a time.
    #[inline(always)]
    fn blocks_of<L: Lanes, F: BlockFormat, const T: usize>(&mut self, l: L, token: usize) {
        let blocks = self.weights.cols() / 32;
        let first_blocks: [usize; T] = std::array::from_fn(|t| self.tokens.row(token + t) * blocks);
        let inputs = layer_inputs::<L, F, T>(l, self.x.prepared(Input::Blocks), first_blocks, blocks);
        for first in self.rows.clone().step_by(LANES) {
            let rows = self.row_group(l, first);
            let mut sums = [l.splat(0.0); T];
            for (run, inputs) in inputs.as_chunks::<T>().0.iter().enumerate() {
                let left = blocks - run * F::RUN;
                // SAFETY: a row has so many blocks.
                let (products, heads) = unsafe { block_products::<L, F, T>(l, &rows, run, left, inputs) };
                for i in 0..F::RUN {
                    if i >= left {
                        break;
                    }
                    let [d, m] = F::factors(l, heads[i]);
                    for t in 0..T {
                        let scale = l.splat(inputs[t].scales[i]);
                        sums[t] = l.mul_add(l.mul(d, scale), l.int_to_float(products[t][i]), sums[t]);
                        if F::Shape::OFFSET {
                            sums[t] = l.mul_add(l.mul(m, scale), l.splat(inputs[t].sums[i]), sums[t]);
                        }
                    }
                }
            }
            self.put_lanes(l, first, token, &sums);
        }
    }

    /// Sixteen rows from row `first` on.
    #[inline(always)]
    fn row_group<L: Lanes>(&self, l: L, first: usize) -> RowGroup<'a> {
        let (bytes, len) = (self.weights.bytes(), self.weights.row_bytes());
        let end = (first + LANES).min(self.rows.end);
        let mut rows = [&bytes[..0]; LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = &bytes[(first + i).min(end - 1) * len..][..len];
        }
        if self.ahead.cold && first == self.rows.start {
            l.fetch(bytes[first * len..].as_ptr(), (end - first) * len);
        }
        let next = if end < self.rows.end { &bytes[end * len..] } else { self.ahead.then };
        RowGroup { rows, next: next.as_ptr() }
    }

    /// Writes the sums of up to sixteen rows from row `first` on, one vector for each token from `token` on.
    #[inline(always)]
    fn put_lanes<L: Lanes>(&mut self, l: L, first: usize, token: usize, sums: &[L::Float]) {
        let (stride, at) = (self.stride, first - self.rows.start);
        let rows = LANES.min(self.rows.end - first);
        for (t, sum) in sums.iter().enumerate() {
            self.out[(token + t) * stride + at..][..rows].copy_from_slice(&l.to_array(*sum)[..rows]);
        }
    }
}

/// Sixteen rows of weights side by side; missing rows repeat the last one.
struct RowGroup<'a> {
    rows: [&'a [u8]; LANES],
    /// The bytes that are likely to be read next.
    next: *const u8,
}

impl<'a> RowGroup<'a> {
    /// Block `b` of row `i`, `len` bytes.
    ///
    /// # Safety
    /// The row must have that block.
    #[inline(always)]
    unsafe fn block(&self, i: usize, b: usize, len: usize) -> &'a [u8] {
        // SAFETY: the caller vouches for it.
        unsafe { self.rows[i].get_unchecked(b * len..(b + 1) * len) }
    }

    /// Prefetches the `i`th of sixteen shares of the next sixteen rows, where they have the blocks from `b` on (`len` bytes of each
    /// row). The shares are in memory order, because memory is fastest when it is read in order.
    #[inline(always)]
    fn fetch_next<L: Lanes>(&self, l: L, i: usize, b: usize, len: usize) {
        let from = self.next.wrapping_add(LANES * b * len);
        let share = len / 64 * 64;
        l.fetch(from.wrapping_add(i * share), share);
        // The bytes that do not fill a cache line of any share.
        if 64 * i < LANES * (len % 64) {
            l.prefetch_far(from.wrapping_add(LANES * share + 64 * i));
        }
    }
}

/// One token's input for one super-block.
struct SuperInput<L: Lanes> {
    codes: [L::Int; 4],
    /// Sums of 16 codes.
    sums: [i16; 16],
    /// Sums of the codes of each sub-block as two bytes, the sum divided by 64 and the remainder; four bytes to a word.
    parts: [[i32; 4]; 2],
}

/// The input of each block for `T` tokens.
#[inline(always)]
fn super_inputs<L: Lanes, F: SuperBlockFormat, const T: usize>(
    l: L,
    x: &Quantized,
    first_blocks: [usize; T],
    blocks: usize,
) -> List<SuperInput<L>> {
    let mut inputs = List::with_capacity(blocks * T);
    for b in 0..blocks {
        for first in first_blocks {
            let codes = input_codes::<L, F>(l, &x.codes.as_chunks::<256>().0[first + b]);
            let sums = x.sums.as_chunks::<16>().0[first + b];
            inputs.push(SuperInput { codes, sums, parts: parts_of_sums::<F>(&sums) });
        }
    }
    inputs
}

/// For a super-block of sixteen rows and `T` tokens: the products of codes, the products of mins, and the factors `d` and `dmin`.
type SuperProducts<L, const T: usize> =
    ([<L as Integers>::Int; T], [<L as Integers>::Int; T], [<L as Lanes>::Float; 2]);

/// Block `b` of sixteen rows times `T` tokens.
///
/// # Safety
/// Rows must have such a block.
#[inline(always)]
unsafe fn super_products<L: Lanes, F: SuperBlockFormat, const T: usize>(
    l: L,
    rows: &RowGroup<'_>,
    b: usize,
    inputs: &[SuperInput<L>; T],
) -> SuperProducts<L, T> {
    let mut blocks = [std::ptr::null(); LANES];
    for (i, block) in blocks.iter_mut().enumerate() {
        // SAFETY: the caller vouches for the block.
        *block = unsafe { rows.block(i, b, F::BYTES) }.as_ptr();
    }
    let (eight, min_bytes, factors);
    // SAFETY: blocks are whole.
    unsafe {
        if F::Shape::SUB_LEN == 32 {
            let heads = Heads::of(l, &blocks);
            eight = l.zip_lanes(heads.scales[0], heads.scales[1]);
            min_bytes = [heads.mins[0], heads.mins[1], l.splat_int(0), l.splat_int(0)];
            factors = heads.factors;
        } else {
            eight = [[0; 2]; LANES];
            min_bytes = F::mins_of(l, &blocks);
            factors = F::factors(l, &blocks);
        }
    }
    let mut product = [[l.splat_int(0); LANES]; T];
    for i in 0..LANES {
        rows.fetch_next(l, i, b, F::BYTES);
        // SAFETY: the caller vouches for the block.
        let block = unsafe { rows.block(i, b, F::BYTES) };
        let (w, SubScales { scales, offsets }) = (F::codes(l, block), F::scales(l, block));
        for t in 0..T {
            let x = &inputs[t];
            let mut sum = if F::Shape::ZERO == 0 { l.splat_int(0) } else { l.dot_words(&offsets, &x.sums) };
            for v in 0..4 {
                sum = if F::Shape::SUB_LEN == 32 {
                    l.dot_scaled_by_eight(sum, w[v], x.codes[v], eight[i], &F::SPREAD[v])
                } else if F::Shape::GREATEST > 127 {
                    // The eighth bits separately: products of seven bits fit into words.
                    let eighth = l.shr_halves::<7, 7>(l.and_bytes(w[v], 0x80));
                    let eighths = l.dot_scaled(l.splat_int(0), eighth, x.codes[v], &scales, &F::SPREAD[v]);
                    let sum = l.add_int(sum, l.shl_int::<7>(eighths));
                    l.dot_scaled(sum, l.and_bytes(w[v], 0x7f), x.codes[v], &scales, &F::SPREAD[v])
                } else {
                    l.dot_scaled(sum, w[v], x.codes[v], &scales, &F::SPREAD[v])
                };
            }
            product[t][i] = sum;
        }
    }
    let (mut products, mut mins) = ([l.splat_int(0); T], [l.splat_int(0); T]);
    for t in 0..T {
        products[t] = l.sum_each(&product[t]);
        if F::Shape::MINS {
            mins[t] = min_products(l, &min_bytes[..64 / F::Shape::SUB_LEN], &inputs[t]);
        }
    }
    (products, mins, factors)
}

/// The products of mins (bytes, four sub-blocks to a vector) with the sums of the input's codes.
#[inline(always)]
fn min_products<L: Lanes>(l: L, mins: &[L::Int], x: &SuperInput<L>) -> L::Int {
    // The part divided by 64, and the remainder.
    let mut parts = [l.splat_int(0); 2];
    for (i, &mins) in mins.iter().enumerate() {
        for (part, sums) in parts.iter_mut().zip(x.parts) {
            *part = l.dot_bytes::<false>(*part, mins, l.splat_int(sums[i]));
        }
    }
    l.add_int(l.shl_int::<6>(parts[0]), parts[1])
}

/// One token's input for a run of blocks; missing blocks are zeros.
struct BlockInput<L: Lanes> {
    codes: [L::Int; 2],
    /// The initial value of the sums: for each block, minus the zero code times the sum of the input's codes.
    start: L::Int,
    /// The sum of each block's codes.
    sums: [f32; 4],
    scales: [f32; 4],
}

/// The input of all runs of blocks for `T` tokens.
#[inline(always)]
fn layer_inputs<L: Lanes, F: BlockFormat, const T: usize>(
    l: L,
    x: &Quantized,
    first_blocks: [usize; T],
    blocks: usize,
) -> List<BlockInput<L>> {
    let (codes, sums) = (x.codes.as_chunks::<32>().0, x.sums.as_chunks::<2>().0);
    let mut inputs = List::with_capacity(blocks.div_ceil(F::RUN) * T);
    for run in (0..blocks).step_by(F::RUN) {
        for first in first_blocks {
            let mut of_blocks = [&[0; 32]; 4];
            let mut input =
                BlockInput { codes: [l.splat_int(0); 2], start: l.splat_int(0), sums: [0.0; 4], scales: [0.0; 4] };
            let mut start = [0; LANES];
            for (i, block) in (first + run..first + (run + F::RUN).min(blocks)).enumerate() {
                let sum = i32::from(sums[block][0]) + i32::from(sums[block][1]);
                of_blocks[i] = &codes[block];
                start[i * LANES / F::RUN] = -i32::from(F::Shape::ZERO) * sum;
                (input.sums[i], input.scales[i]) = (sum as f32, x.scales[block]);
            }
            // SAFETY: blocks have 32 codes, and the array holds 16 integers.
            unsafe {
                input.start = l.load_int(start.as_ptr());
                let [a, b, c, d] = of_blocks.map(|codes| codes.as_ptr().cast::<u8>());
                input.codes = if F::RUN == 2 {
                    [l.join(a, b), l.splat_int(0)]
                } else {
                    [l.join_four([a, b, c, d]), l.join_four([a.add(16), b.add(16), c.add(16), d.add(16)])]
                };
            }
            inputs.push(input);
        }
    }
    inputs
}

/// The products of run `run` of blocks of sixteen rows with `T` tokens, one vector for each block, and the first four bytes of
/// each block. Where rows have fewer blocks `left`, the last one is used for the missing ones.
///
/// # Safety
/// The rows must have these blocks.
#[inline(always)]
unsafe fn block_products<L: Lanes, F: BlockFormat, const T: usize>(
    l: L,
    rows: &RowGroup<'_>,
    run: usize,
    left: usize,
    inputs: &[BlockInput<L>; T],
) -> ([[L::Int; 4]; T], [L::Int; 4]) {
    let mut products = [[l.splat_int(0); LANES]; T];
    let mut places = [[std::ptr::null(); LANES]; 4];
    for i in 0..LANES {
        rows.fetch_next(l, i, run, F::RUN * F::BYTES);
        let mut blocks = [&[][..]; 4];
        for b in 0..F::RUN {
            // SAFETY: the caller vouches for the block.
            blocks[b] = unsafe { rows.block(i, run * F::RUN + b.min(left - 1), F::BYTES) };
            places[b][i] = blocks[b].as_ptr();
        }
        let w = F::run(l, blocks);
        for t in 0..T {
            let BlockInput { codes, start, .. } = inputs[t];
            products[t][i] = if F::RUN == 2 {
                l.dot_bytes::<true>(start, w[0], codes[0])
            } else {
                l.dot_bytes::<false>(l.dot_bytes::<false>(start, w[0], codes[0]), w[1], codes[1])
            };
        }
    }
    let (mut sums, mut heads) = ([[l.splat_int(0); 4]; T], [l.splat_int(0); 4]);
    for t in 0..T {
        if F::RUN == 2 {
            [sums[t][0], sums[t][1]] = l.sum_halves_each(&products[t]);
        } else {
            sums[t] = l.sum_quarters_each(&products[t]);
        }
    }
    for i in 0..F::RUN {
        // SAFETY: blocks have four bytes.
        heads[i] = unsafe { l.words_at(&places[i]) };
    }
    (sums, heads)
}

/// The codes of a super-block of input, in the order of `F`'s vectors.
#[inline(always)]
fn input_codes<L: Lanes, F: SuperBlockFormat>(l: L, x: &[i8; 256]) -> [L::Int; 4] {
    let mut codes = [l.splat_int(0); 4];
    for (codes, halves) in codes.iter_mut().zip(F::Shape::HALVES) {
        // SAFETY: halves are below 8, and have 32 codes each.
        *codes = unsafe { l.join(x.as_ptr().add(32 * halves[0]).cast(), x.as_ptr().add(32 * halves[1]).cast()) };
    }
    codes
}

/// [`SuperInput::parts`] of the sums of sixteen codes each.
#[inline(always)]
fn parts_of_sums<F: SuperBlockFormat>(sums: &[i16; 16]) -> [[i32; 4]; 2] {
    let mut parts = [[[0; 4]; 4]; 2];
    for (i, sums) in sums.chunks_exact(F::Shape::SUB_LEN / 16).enumerate() {
        // At most 32 times 127.
        let sum: i16 = sums.iter().sum();
        (parts[0][i / 4][i % 4], parts[1][i / 4][i % 4]) = ((sum >> 6) as u8, (sum & 63) as u8);
    }
    parts.map(|words| words.map(i32::from_ne_bytes))
}
