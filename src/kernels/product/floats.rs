//! Products with weights that are floats: sixteen partial sums over the columns, then one tree.
//!
//! With few tokens the weights are streamed as they are. With many, slabs of some rows and columns are copied side by side
//! once, widened to `f32` if they are halves, and multiplied with all tokens; partial sums are kept in memory between slabs.
//!
//! Weights in bf16 are multiplied with input that is rounded to bf16, as the CPU's bf16 products need it: see
//! [`Lanes::dot_bf16`].

#![allow(unsafe_code, reason = "vector loads in the innermost loop")]

use std::marker::PhantomData;

use super::activations::Activations;
use super::few::RowsProduct;
use crate::formats::view::{FloatFormat, VECTOR};
use crate::kernels::scratch::Scratch;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes, Sums};

/// Products with fewer tokens stream the weights.
const MANY_TOKENS: usize = 8;
/// Vectors of a slab: 2 KiB of each row and token.
const SLAB: usize = 32;
/// Tokens whose partial sums fit the second-level cache together; slabs are copied again for each chunk of tokens.
const CHUNK: usize = 174;
/// Rows of a tile.
const ROWS: usize = 4;

/// A product with rows of floats.
pub(super) struct FloatRows<'a, W> {
    product: RowsProduct<'a>,
    /// The rows, in format `W`.
    bytes: &'a [u8],
    format: PhantomData<W>,
}

impl<'a, W: FloatFormat> FloatRows<'a, W> {
    /// The product with `bytes`, which are its rows in format `W`.
    pub(super) fn new(product: RowsProduct<'a>, bytes: &'a [u8]) -> Self {
        assert_eq!(bytes.len(), product.rows.len() * product.weights.cols() * W::BYTES);
        Self { product, bytes, format: PhantomData }
    }
}

impl<W: FloatFormat> Kernel for FloatRows<'_, W> {
    type Output = ();
    const DOT_PRODUCTS: bool = W::ROUNDED_INPUT;

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        match (self.product.tokens.len() < MANY_TOKENS || !L::TILES, L::WIDE) {
            (true, _) => self.stream(l),
            (false, true) => self.slabs::<L, ROWS, 6>(l),
            (false, false) => self.slabs::<L, 2, 2>(l),
        }
    }
}

impl<'a, W: FloatFormat> FloatRows<'a, W> {
    #[inline(always)]
    fn stream<L: Lanes>(&mut self, l: L) {
        let tokens = self.product.tokens.len();
        let mut token = 0;
        while token < tokens {
            token += if L::TILES {
                match tokens - token {
                    1 => self.stream_tokens::<L, 8, 1>(l, token),
                    2 | 3 => self.stream_tokens::<L, ROWS, 2>(l, token),
                    _ => self.stream_tokens::<L, 2, 4>(l, token),
                }
            } else {
                self.stream_tokens::<L, 1, 1>(l, token)
            };
        }
    }

    /// All rows, for `T` tokens from `token` on; returns `T`.
    #[inline(always)]
    fn stream_tokens<L: Lanes, const R: usize, const T: usize>(&mut self, l: L, token: usize) -> usize {
        let (cols, rows) = (self.product.weights.cols(), self.product.rows.len());
        let x = self.token_rows::<T>(token);
        for first in (0..rows).step_by(R) {
            let w = weight_rows::<R>(self.bytes, rows, first);
            let mut sums = [[[0.0; LANES]; R]; T];
            // SAFETY: rows of weights and of input have `cols` numbers each.
            unsafe { W::accumulate(l, pointers(&w), pointers(&x), cols / W::LEN, &mut sums) };
            add_tail::<L, W, R, T>(l, &w, &x, &mut sums);
            self.put(l, first, token, T, &sums);
        }
        T
    }

    #[inline(always)]
    fn slabs<L: Lanes, const R: usize, const T: usize>(&mut self, l: L) {
        let RowsProduct { weights, rows, tokens, .. } = &self.product;
        let (bytes, cols, rows, tokens) = (self.bytes, weights.cols(), rows.len(), tokens.len());
        let (vectors, tiles) = (cols / W::LEN, rows.div_ceil(R));
        let mut slab = Scratch::<f32>::new(tiles * R * SLAB * LANES);
        let mut waiting = Scratch::new(CHUNK.div_ceil(T) * tiles * R * T * LANES);
        let waiting = waiting.as_chunks_mut::<LANES>().0.as_chunks_mut::<R>().0.as_chunks_mut::<T>().0;
        for chunk in (0..tokens).step_by(CHUNK) {
            let groups = CHUNK.min(tokens - chunk).div_ceil(T);
            waiting.fill([[[0.0; LANES]; R]; T]);
            for start in (0..vectors).step_by(SLAB) {
                let n = SLAB.min(vectors - start);
                for (row, to) in bytes.chunks_exact(cols * W::BYTES).zip(slab.chunks_exact_mut(SLAB * LANES)) {
                    for k in 0..n {
                        // SAFETY: `start + n` vectors are in a row, and `n` in a slab's row.
                        unsafe {
                            let from = row.as_ptr().add((start + k) * W::LEN * W::BYTES);
                            W::widen(l, from, to.as_mut_ptr().add(k * LANES).cast());
                        }
                    }
                }
                for group in 0..groups {
                    let x = self.token_rows::<T>(chunk + group * T);
                    let waiting = &mut waiting[group * tiles..][..tiles];
                    for (w, sums) in slab.chunks_exact(R * SLAB * LANES).zip(waiting) {
                        let (mut from_w, mut from_x) = ([w.as_ptr().cast(); R], [x[0].as_ptr(); T]);
                        for r in 0..R {
                            from_w[r] = w[r * SLAB * LANES..].as_ptr().cast();
                        }
                        for t in 0..T {
                            from_x[t] = x[t][start * VECTOR..].as_ptr();
                        }
                        // SAFETY: `n` vectors are in each row of the slab and follow in each row of input.
                        unsafe { W::Wide::accumulate(l, from_w, from_x, n, sums) };
                    }
                }
            }
            for group in 0..groups {
                let token = chunk + group * T;
                let x = self.token_rows::<T>(token);
                for (tile, sums) in waiting[group * tiles..][..tiles].iter_mut().enumerate() {
                    let w = weight_rows::<R>(bytes, rows, tile * R);
                    add_tail::<L, W, R, T>(l, &w, &x, sums);
                    self.put(l, tile * R, token, (tokens - token).min(CHUNK.min(tokens - chunk) - group * T), sums);
                }
            }
        }
    }

    /// The input of `T` tokens from `token` on, in the form for `W`; tokens beyond the last one repeat it.
    #[inline(always)]
    fn token_rows<const T: usize>(&self, token: usize) -> [&'a [u8]; T] {
        let (x, tokens): (&'a Activations<'a>, _) = (self.product.x, self.product.tokens);
        let mut rows = [input::<W>(x, tokens.row(token)); T];
        for t in 1..T {
            rows[t] = input::<W>(x, tokens.row((token + t).min(tokens.len() - 1)));
        }
        rows
    }

    /// Writes the sums of a tile for the rows that exist and for at most `tokens` tokens.
    #[inline(always)]
    fn put<L: Lanes, const R: usize, const T: usize>(
        &mut self,
        l: L,
        row: usize,
        token: usize,
        tokens: usize,
        sums: &Sums<R, T>,
    ) {
        let mut totals = [[0.0; R]; T];
        let (flat, sums) = (totals.as_flattened_mut(), sums.as_flattened());
        for (to, sums) in flat.chunks_mut(LANES).zip(sums.chunks(LANES)) {
            let mut sixteen = [l.splat(0.0); LANES];
            for i in 0..sums.len() {
                sixteen[i] = l.array(&sums[i]);
            }
            to.copy_from_slice(&l.to_array(l.sums(&sixteen))[..to.len()]);
        }
        let RowsProduct { rows, stride, .. } = &self.product;
        let (rows, stride) = (rows.len() - row, *stride);
        for (t, totals) in totals.iter().enumerate().take(tokens) {
            let to = &mut self.product.out[(token + t) * stride + row..];
            match to.first_chunk_mut() {
                // All rows at once, where none is missing.
                Some(to) if rows >= R => *to = *totals,
                _ => to[..rows.min(R)].copy_from_slice(&totals[..rows.min(R)]),
            }
        }
    }
}

/// A token's input in the form for weights of type `W`.
#[inline(always)]
fn input<'a, W: FloatFormat>(x: &'a Activations<'_>, row: usize) -> &'a [u8] {
    if W::ROUNDED_INPUT {
        let row = x.bf16_row(row);
        // SAFETY: numbers of two bytes are bytes of any value.
        unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), size_of_val(row)) }
    } else {
        let row = x.row(row);
        // SAFETY: floats are bytes of any value.
        unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), size_of_val(row)) }
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
    x: &[&[u8]; T],
    sums: &mut Sums<R, T>,
) {
    let vectors = x[0].len() / VECTOR;
    if x[0].len() == vectors * VECTOR {
        return;
    }
    let (mut w_tails, mut x_tails) = ([[0; VECTOR]; R], [[0; VECTOR]; T]);
    for (tail, w) in w_tails.iter_mut().zip(w) {
        let rest = &w[vectors * W::LEN * W::BYTES..];
        tail[..rest.len()].copy_from_slice(rest);
    }
    for (tail, x) in x_tails.iter_mut().zip(x) {
        let rest = &x[vectors * VECTOR..];
        tail[..rest.len()].copy_from_slice(rest);
    }
    let (mut w, mut x) = ([w_tails[0].as_ptr(); R], [x_tails[0].as_ptr(); T]);
    for r in 1..R {
        w[r] = w_tails[r].as_ptr();
    }
    for t in 1..T {
        x[t] = x_tails[t].as_ptr();
    }
    // SAFETY: every tail has room for a vector.
    unsafe { W::accumulate(l, w, x, 1, sums) };
}
