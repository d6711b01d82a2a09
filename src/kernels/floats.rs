//! Products with weights that are floats: sixteen partial sums over the columns, then one tree.
//!
//! Few tokens stream the weights as they are. For many, slabs of some rows and columns are widened to `f32` once, and
//! meet all tokens; the partial sums wait in memory from slab to slab.

#![allow(unsafe_code, reason = "vector loads in the innermost loop")]

use super::activations::Activations;
use super::lanes::{LANES, Lanes};
use super::rows::RowsProduct;
use super::scratch::Scratch;

/// Products with fewer tokens stream the weights.
const MANY_TOKENS: usize = 8;
/// Vectors of a slab: 2 KiB of each row and token.
const SLAB: usize = 32;
/// Tokens whose partial sums wait together.
const CHUNK: usize = 96;
/// Rows of a tile.
const ROWS: usize = 4;

/// A type of floats.
pub(super) trait FloatFormat {
    /// Bytes of a number.
    const BYTES: usize;

    /// Sixteen numbers.
    ///
    /// # Safety
    /// `from` points to that many.
    unsafe fn load<L: Lanes>(l: L, from: *const u8) -> L::Float;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl FloatFormat for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const u8) -> L::Float {
        // SAFETY: the caller vouches for the numbers; loads need no alignment.
        unsafe { l.load(from.cast()) }
    }
}

impl FloatFormat for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const u8) -> L::Float {
        // SAFETY: the caller vouches for the numbers; loads need no alignment.
        unsafe { l.load_half(from.cast()) }
    }
}

impl FloatFormat for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<L: Lanes>(l: L, from: *const u8) -> L::Float {
        // SAFETY: the caller vouches for the numbers; loads need no alignment.
        unsafe { l.load_bf16(from.cast()) }
    }
}

/// A tile of partial sums.
type Sums<F, const R: usize, const T: usize> = [[F; R]; T];

/// `vectors` vectors further, from `w` and `x` on.
///
/// # Safety
/// Every pointer must be to that many vectors, those of `w` of numbers of type `W`.
#[inline(always)]
unsafe fn accumulate<L: Lanes, W: FloatFormat, const R: usize, const T: usize>(
    l: L,
    w: [*const u8; R],
    x: [*const f32; T],
    vectors: usize,
    mut sums: Sums<L::Float, R, T>,
) -> Sums<L::Float, R, T> {
    for k in 0..vectors {
        let mut weights = [l.splat(0.0); R];
        for r in 0..R {
            // SAFETY: the caller vouches for `vectors` vectors.
            weights[r] = unsafe { W::load(l, w[r].add(k * LANES * W::BYTES)) };
        }
        for t in 0..T {
            // SAFETY: as above.
            let x = unsafe { l.load(x[t].add(k * LANES)) };
            for r in 0..R {
                sums[t][r] = l.mul_add(weights[r], x, sums[t][r]);
            }
        }
    }
    sums
}

impl<'a> RowsProduct<'a> {
    /// All rows and tokens, with `bytes` the rows `self.rows` in type `W`.
    #[inline(always)]
    pub(super) fn floats<L: Lanes, W: FloatFormat>(&mut self, l: L, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.rows.len() * self.weights.cols() * W::BYTES);
        match (self.tokens.len() < MANY_TOKENS, L::WIDE) {
            (true, _) => self.stream::<L, W>(l, bytes),
            (false, true) => self.slabs::<L, W, ROWS, 6>(l, bytes),
            (false, false) => self.slabs::<L, W, 2, 2>(l, bytes),
        }
    }

    #[inline(always)]
    fn stream<L: Lanes, W: FloatFormat>(&mut self, l: L, bytes: &[u8]) {
        let tokens = self.tokens.len();
        let mut token = 0;
        while token < tokens {
            token += match tokens - token {
                1 => self.stream_tokens::<L, W, 8, 1>(l, bytes, token),
                2 | 3 => self.stream_tokens::<L, W, ROWS, 2>(l, bytes, token),
                _ => self.stream_tokens::<L, W, 2, 4>(l, bytes, token),
            };
        }
    }

    /// All rows, for `T` tokens from `token` on; returns `T`.
    #[inline(always)]
    fn stream_tokens<L: Lanes, W: FloatFormat, const R: usize, const T: usize>(
        &mut self,
        l: L,
        bytes: &[u8],
        token: usize,
    ) -> usize {
        let (cols, rows) = (self.weights.cols(), self.rows.len());
        let x = self.token_rows::<T>(token);
        for first in (0..rows).step_by(R) {
            let w = weight_rows::<R>(bytes, rows, first);
            let mut sums = [[l.splat(0.0); R]; T];
            // SAFETY: rows of weights and of input have `cols` numbers each.
            sums = unsafe { accumulate::<L, W, R, T>(l, pointers(&w), pointers(&x), cols / LANES, sums) };
            sums = add_tail::<L, W, R, T>(l, &w, &x, sums);
            self.put(l, first, token, T, &sums);
        }
        T
    }

    #[inline(always)]
    fn slabs<L: Lanes, W: FloatFormat, const R: usize, const T: usize>(&mut self, l: L, bytes: &[u8]) {
        let (cols, rows, tokens) = (self.weights.cols(), self.rows.len(), self.tokens.len());
        let (vectors, tiles) = (cols / LANES, rows.div_ceil(R));
        let mut slab = Scratch::new(tiles * R * SLAB * LANES);
        let mut waiting = Scratch::new(CHUNK.div_ceil(T) * tiles * R * T * LANES);
        for chunk in (0..tokens).step_by(CHUNK) {
            let groups = CHUNK.min(tokens - chunk).div_ceil(T);
            waiting.fill(0.0);
            for start in (0..vectors).step_by(SLAB) {
                let n = SLAB.min(vectors - start);
                for (row, to) in bytes.chunks_exact(cols * W::BYTES).zip(slab.chunks_exact_mut(SLAB * LANES)) {
                    for k in 0..n {
                        // SAFETY: `start + n` vectors are in a row, and `n` in a slab's row.
                        unsafe {
                            let x = W::load(l, row.as_ptr().add((start + k) * LANES * W::BYTES));
                            l.store(to.as_mut_ptr().add(k * LANES), x);
                        }
                    }
                }
                for group in 0..groups {
                    let x = self.token_rows::<T>(chunk + group * T);
                    let waiting = waiting[group * tiles * R * T * LANES..].chunks_exact_mut(R * T * LANES);
                    for (w, waiting) in slab.chunks_exact(R * SLAB * LANES).zip(waiting) {
                        let (mut from_w, mut from_x) = ([w.as_ptr().cast(); R], [x[0].as_ptr(); T]);
                        for r in 0..R {
                            from_w[r] = w[r * SLAB * LANES..].as_ptr().cast();
                        }
                        for t in 0..T {
                            from_x[t] = x[t][start * LANES..].as_ptr();
                        }
                        let sums = load_sums::<L, R, T>(l, waiting);
                        // SAFETY: `n` vectors are in each row of the slab and follow in each row of input.
                        let sums = unsafe { accumulate::<L, F32, R, T>(l, from_w, from_x, n, sums) };
                        store_sums(l, &sums, waiting);
                    }
                }
            }
            for group in 0..groups {
                let token = chunk + group * T;
                let x = self.token_rows::<T>(token);
                let waiting = waiting[group * tiles * R * T * LANES..].chunks_exact(R * T * LANES);
                for (tile, waiting) in waiting.enumerate().take(tiles) {
                    let w = weight_rows::<R>(bytes, rows, tile * R);
                    let sums = add_tail::<L, W, R, T>(l, &w, &x, load_sums::<L, R, T>(l, waiting));
                    self.put(l, tile * R, token, (tokens - token).min(CHUNK.min(tokens - chunk) - group * T), &sums);
                }
            }
        }
    }

    /// The input of `T` tokens from `token` on; tokens beyond the last one repeat it.
    #[inline(always)]
    fn token_rows<const T: usize>(&self, token: usize) -> [&'a [f32]; T] {
        let x: &'a Activations<'a> = self.x;
        let mut rows = [x.row(self.tokens.row(token)); T];
        for t in 1..T {
            rows[t] = x.row(self.tokens.row((token + t).min(self.tokens.len() - 1)));
        }
        rows
    }

    /// Writes the sums of a tile, as far as there are rows and for `tokens` tokens at most.
    #[inline(always)]
    fn put<L: Lanes, const R: usize, const T: usize>(
        &mut self,
        l: L,
        row: usize,
        token: usize,
        tokens: usize,
        sums: &Sums<L::Float, R, T>,
    ) {
        let rows = self.rows.len();
        for t in 0..T.min(tokens) {
            for r in 0..R.min(rows - row) {
                self.out[(token + t) * self.stride + row + r] = l.sum(sums[t][r]);
            }
        }
    }
}

/// `R` of `rows` rows of bytes from `first` on; rows beyond the last one repeat it.
#[inline(always)]
fn weight_rows<const R: usize>(bytes: &[u8], rows: usize, first: usize) -> [&[u8]; R] {
    let len = bytes.len() / rows;
    let mut w = [bytes; R];
    for r in 0..R {
        w[r] = &bytes[(first + r).min(rows - 1) * len..][..len];
    }
    w
}

#[inline(always)]
fn pointers<T, const N: usize>(slices: &[&[T]; N]) -> [*const T; N] {
    let mut pointers = [slices[0].as_ptr(); N];
    for i in 1..N {
        pointers[i] = slices[i].as_ptr();
    }
    pointers
}

/// The columns that do not fill a vector, padded with zeros.
#[inline(always)]
fn add_tail<L: Lanes, W: FloatFormat, const R: usize, const T: usize>(
    l: L,
    w: &[&[u8]; R],
    x: &[&[f32]; T],
    sums: Sums<L::Float, R, T>,
) -> Sums<L::Float, R, T> {
    let whole = x[0].len() / LANES * LANES;
    let rest = x[0].len() - whole;
    if rest == 0 {
        return sums;
    }
    let (mut w_tails, mut x_tails) = ([[0; 4 * LANES]; R], [[0.0; LANES]; T]);
    for (tail, w) in w_tails.iter_mut().zip(w) {
        tail[..rest * W::BYTES].copy_from_slice(&w[whole * W::BYTES..]);
    }
    for (tail, x) in x_tails.iter_mut().zip(x) {
        tail[..rest].copy_from_slice(&x[whole..]);
    }
    let (mut w, mut x) = ([w_tails[0].as_ptr(); R], [x_tails[0].as_ptr(); T]);
    for r in 1..R {
        w[r] = w_tails[r].as_ptr();
    }
    for t in 1..T {
        x[t] = x_tails[t].as_ptr();
    }
    // SAFETY: every tail has room for sixteen numbers.
    unsafe { accumulate::<L, W, R, T>(l, w, x, 1, sums) }
}

#[inline(always)]
fn load_sums<L: Lanes, const R: usize, const T: usize>(l: L, from: &[f32]) -> Sums<L::Float, R, T> {
    let from = from.as_chunks::<LANES>().0;
    let mut sums = [[l.splat(0.0); R]; T];
    for t in 0..T {
        for r in 0..R {
            sums[t][r] = l.array(&from[t * R + r]);
        }
    }
    sums
}

#[inline(always)]
fn store_sums<L: Lanes, const R: usize, const T: usize>(l: L, sums: &Sums<L::Float, R, T>, to: &mut [f32]) {
    let to = to.as_chunks_mut::<LANES>().0;
    for t in 0..T {
        for r in 0..R {
            to[t * R + r] = l.to_array(sums[t][r]);
        }
    }
}
