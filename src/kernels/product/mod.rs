//! Products of whole matrices. The pool computes them in strips of rows, with bias, activation and residual addition at the
//! end of each strip.

#![allow(unsafe_code, reason = "strips of one output are written by several threads")]

mod activations;
mod few;
mod floats;
mod input;
mod many;
mod matrix;
mod powers;
mod rows;
mod tiles;

use std::marker::PhantomData;
use std::ops::Range;

pub use activations::Activations;
use activations::Arranged;
use few::RowsProduct;
use input::groups::GROUP;
use input::{Input, Tokens};
use many::PanelProduct;
pub use matrix::Matrix;
use matrix::ReadAhead;
use tiles::TileProduct;

use super::Pool;
use super::scratch::{List, Scratch};
use crate::TensorType;
use crate::network::Activation;
use crate::simd::lanes::{Kernel, Lanes};
use crate::simd::{Isa, LANES};

/// Rows of a strip with many tokens.
const STRIP: usize = 64;
/// Maximum rows of a strip with few tokens.
const LONG_STRIP: usize = 256;
/// Number of tokens from which strips have [`STRIP`] rows.
const MANY_TOKENS: usize = 8;
/// Outputs of at least this many elements do not stay in a cache until they are read, so they are written with streaming stores.
const STREAMED: usize = 1 << 21;

/// How a product is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It is written to the output.
    Set,
    /// It is added to the output.
    Add,
}

/// `out = weights x + bias`, for every row of `x` or for listed ones.
pub struct Product<'a> {
    /// `[rows, cols]`.
    pub weights: &'a Matrix,
    /// `[rows]`.
    pub bias: Option<&'a [f32]>,
    /// The rows of `x` that take part; all of them when `None`.
    pub tokens: Option<&'a [u32]>,
    /// Whether `out` is written or added to.
    pub store: Store,
    /// `[tokens, rows]`.
    pub out: &'a mut [f32],
}

/// `out = act(gate x + bias) * (up x + bias)`, for every row of `x` or for listed ones.
pub struct GatedProduct<'a> {
    /// `[rows, cols]`.
    pub gate: &'a Matrix,
    /// `[rows, cols]`.
    pub up: &'a Matrix,
    /// `[rows]`.
    pub gate_bias: Option<&'a [f32]>,
    /// `[rows]`.
    pub up_bias: Option<&'a [f32]>,
    /// The activation function of the gate.
    pub activation: Activation,
    /// The rows of `x` that take part; all of them when `None`.
    pub tokens: Option<&'a [u32]>,
    /// `[tokens, rows]`.
    pub out: &'a mut [f32],
}

/// An output `[tokens, rows]` that several threads write, each its own columns.
#[derive(Clone, Copy)]
struct Output<'a> {
    start: *mut f32,
    len: usize,
    rows: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads write disjoint columns, see `Output::columns`.
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    fn new(out: &'a mut [f32], rows: usize, tokens: usize) -> Self {
        assert_eq!(out.len(), rows * tokens, "an output of {tokens} x {rows}");
        Self { start: out.as_mut_ptr(), len: out.len(), rows, lifetime: PhantomData }
    }

    /// The columns `columns` of row `token`.
    ///
    /// # Safety
    /// No two threads may ask for the same columns.
    #[allow(clippy::mut_from_ref, reason = "the caller keeps columns apart")]
    unsafe fn columns(&self, token: usize, columns: &Range<usize>) -> &mut [f32] {
        assert!(columns.end <= self.rows && (token + 1) * self.rows <= self.len);
        // SAFETY: inside the output, as just checked, and nobody else's, as the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(token * self.rows + columns.start), columns.len()) }
    }
}

/// One matrix, or two of the same shape, and where the result goes.
struct Work<'a> {
    weights: &'a Matrix,
    bias: Option<&'a [f32]>,
    /// The gate matrix with bias and activation; `weights` is the up matrix then.
    gate: Option<(&'a Matrix, Option<&'a [f32]>, Activation)>,
    tokens: Tokens<'a>,
    /// The input of the listed tokens in the layout for many tokens.
    arranged: List<(Input, Arranged)>,
    store: Store,
    out: Output<'a>,
}

/// All products over the rows of `x`, in one parallel region.
///
/// # Panics
/// If shapes do not agree.
pub fn matmul(pool: &Pool, x: &Activations<'_>, products: &mut [Product<'_>]) {
    let mut work: List<Work<'_>> = products
        .iter_mut()
        .map(|p| {
            let tokens = p.tokens.map_or(Tokens::First(x.rows()), Tokens::Listed);
            let out = Output::new(p.out, p.weights.rows(), tokens.len());
            Work { weights: p.weights, bias: p.bias, gate: None, tokens, arranged: List::new(), store: p.store, out }
        })
        .collect();
    run(pool, x, &mut work);
}

/// All gated products over the rows of `x`, in one parallel region.
///
/// # Panics
/// If shapes do not agree.
pub fn gated(pool: &Pool, x: &Activations<'_>, products: &mut [GatedProduct<'_>]) {
    let mut work: List<Work<'_>> = products
        .iter_mut()
        .map(|p| {
            assert_eq!((p.gate.rows(), p.gate.cols()), (p.up.rows(), p.up.cols()), "gate and up differ");
            let tokens = p.tokens.map_or(Tokens::First(x.rows()), Tokens::Listed);
            let out = Output::new(p.out, p.up.rows(), tokens.len());
            let gate = Some((p.gate, p.gate_bias, p.activation));
            Work { weights: p.up, bias: p.up_bias, gate, tokens, arranged: List::new(), store: Store::Set, out }
        })
        .collect();
    run(pool, x, &mut work);
}

fn run(pool: &Pool, x: &Activations<'_>, work: &mut [Work<'_>]) {
    let mut strips = List::new();
    for (i, w) in work.iter_mut().enumerate().filter(|(_, w)| w.tokens.len() > 0) {
        assert_eq!(w.weights.cols(), x.cols(), "rows of {} weights and {} inputs", w.weights.cols(), x.cols());
        let rows = w.weights.rows();
        assert!(w.bias.is_none_or(|bias| bias.len() == rows), "a bias for {rows} rows");
        w.prepare(pool, x, w.weights.ty());
        if let Some((gate, ..)) = w.gate {
            w.prepare(pool, x, gate.ty());
        }
        let strip = if w.tokens.len() >= MANY_TOKENS {
            STRIP
        } else {
            (rows / (pool.threads() * 8)).next_multiple_of(STRIP).clamp(STRIP, LONG_STRIP)
        };
        strips.extend((0..rows).step_by(strip).map(|start| (i, start..(start + strip).min(rows))));
    }
    pool.run(strips.len(), &|s| {
        let (i, rows) = &strips[s];
        // Strips go to the threads in turn.
        let next = strips.get(s + pool.threads());
        let then = next.map_or(&[][..], |(i, rows)| work[*i].weights.bytes_from(rows.start));
        work[*i].strip(pool, x, rows, ReadAhead { cold: s < pool.threads(), then });
    });
}

impl Work<'_> {
    /// Computes the input in the form that weights of type `ty` need.
    fn prepare(&mut self, pool: &Pool, x: &Activations<'_>, ty: TensorType) {
        let input = Input::of(ty);
        match self.tokens {
            _ if !self.is_arranged(pool, input) => x.prepare(pool, ty),
            Tokens::First(_) => drop(x.arranged(pool, input)),
            Tokens::Listed(_) if self.arranged.iter().any(|(found, _)| *found == input) => {}
            Tokens::Listed(tokens) => self.arranged.push((input, x.arrange(pool, input, tokens))),
        }
    }

    fn is_arranged(&self, pool: &Pool, input: Input) -> bool {
        let enough = match pool.isa() {
            // The reference: the kernel for few tokens alone.
            Isa::Scalar => return false,
            isa if isa.has_tiles() && input.has_tiles() => tiles::MIN_TOKENS,
            _ => many::MIN_TOKENS,
        };
        input.is_quantized() && self.tokens.len() >= enough
    }

    /// The products of some rows plus bias: `[tokens, stride]`, with padding.
    fn multiply(
        &self,
        pool: &Pool,
        x: &Activations<'_>,
        (weights, bias): (&Matrix, Option<&[f32]>),
        rows: &Range<usize>,
        ahead: ReadAhead<'_>,
    ) -> Scratch {
        let stride = rows.len().next_multiple_of(LANES);
        let input = Input::of(weights.ty());
        let mut tile = Scratch::new(self.tokens.len().next_multiple_of(GROUP) * stride);
        let (range, out) = (rows.clone(), &mut *tile);
        if self.is_arranged(pool, input) {
            let listed = self.arranged.iter().find(|(found, _)| *found == input);
            match listed.map_or_else(|| x.arranged(pool, input), |(_, arranged)| arranged) {
                Arranged::Tiles(x) => TileProduct { weights, rows: range, x, out, stride }.run(),
                Arranged::Groups(x) => PanelProduct { weights, rows: range, x, out, stride, ahead }.run(pool.isa()),
            }
        } else {
            rows::multiply(
                pool.isa(),
                RowsProduct { weights, rows: range, x, tokens: self.tokens, out, stride, ahead },
            );
        }
        if let Some(bias) = bias {
            for row in tile.chunks_exact_mut(stride) {
                row.iter_mut().zip(&bias[rows.clone()]).for_each(|(v, b)| *v += b);
            }
        }
        tile
    }

    /// Computes and stores one strip of rows.
    fn strip(&self, pool: &Pool, x: &Activations<'_>, rows: &Range<usize>, ahead: ReadAhead<'_>) {
        let stride = rows.len().next_multiple_of(LANES);
        let then = self.gate.map_or(ahead.then, |(gate, ..)| gate.bytes_from(rows.start));
        let mut tile = self.multiply(pool, x, (self.weights, self.bias), rows, ReadAhead { then, ..ahead });
        if let Some((gate, bias, activation)) = self.gate {
            let mut gates = self.multiply(pool, x, (gate, bias), rows, ReadAhead { cold: false, ..ahead });
            let len = self.tokens.len() * stride;
            activation.apply_gated(&mut gates[..len], &tile[..len]);
            tile = gates;
        }
        let tile = &tile[..self.tokens.len() * stride];
        pool.isa().run(StoreResults { tile, stride, store: self.store, out: self.out, columns: rows.clone() });
    }
}

/// Writes the products of some rows to the output. The columns must belong to this task alone.
struct StoreResults<'a> {
    /// `[tokens, stride]`.
    tile: &'a [f32],
    stride: usize,
    store: Store,
    out: Output<'a>,
    columns: Range<usize>,
}

impl Kernel for StoreResults<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let streamed = self.store == Store::Set && self.out.len >= STREAMED && self.columns_are_lines();
        for (t, row) in self.tile.chunks_exact(self.stride).enumerate() {
            // SAFETY: strips of one output are disjoint ranges of rows, and each is one task.
            let out = unsafe { self.out.columns(t, &self.columns) };
            match self.store {
                Store::Set if streamed => {
                    for (to, from) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(row.as_chunks::<LANES>().0) {
                        // SAFETY: an array of 16 floats, a line of the cache, as just checked.
                        unsafe { l.stream(to.as_mut_ptr(), l.array(from)) };
                    }
                }
                Store::Set => out.copy_from_slice(&row[..self.columns.len()]),
                Store::Add => out.iter_mut().zip(row).for_each(|(o, v)| *o += v),
            }
        }
        l.end_stream();
    }
}

impl StoreResults<'_> {
    /// Whether the columns are whole lines of the cache in every row.
    fn columns_are_lines(&self) -> bool {
        let lines = |floats: usize| floats.is_multiple_of(LANES);
        lines(self.columns.start)
            && lines(self.columns.len())
            && lines(self.out.rows)
            && self.out.start.addr().is_multiple_of(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;
    use crate::formats;
    use crate::simd::Isa;

    /// Every type that products can be computed with.
    fn types() -> impl Iterator<Item = TensorType> {
        formats::codecs().iter().map(|codec| codec.ty)
    }

    /// Pseudorandom numbers, the same in every run.
    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        };
        // Sums of uniform numbers, with a few large ones.
        (0..n).map(|i| (next() + next() + next() - 1.5) * if i % 97 == 3 { 9.0 } else { 1.0 }).collect()
    }

    fn matrix(ty: TensorType, rows: usize, cols: usize) -> Matrix {
        let mut bytes = vec![0; rows * ty.row_bytes(cols)];
        match formats::codec(ty).unwrap().encode {
            Some(encode) => encode(&numbers(7 + rows as u64, rows * cols), None, &mut bytes),
            None => {
                bytes.chunks_mut(ty.block_bytes()).zip(1..).for_each(|(block, seed)| put_arbitrary(ty, seed, block))
            }
        }
        Matrix::new(ty, rows, cols, Bytes::new(bytes)).unwrap()
    }

    /// Arbitrary bytes of a type that has no encoder; they decode to numbers of usual magnitudes.
    fn put_arbitrary(ty: TensorType, seed: u64, block: &mut [u8]) {
        let mut decoded = vec![0.0; ty.block_len()];
        for attempt in 0u64.. {
            for (byte, x) in block.iter_mut().zip(numbers(seed * 1000 + attempt, ty.block_bytes())) {
                *byte = (x * 4096.0) as i32 as u8;
            }
            formats::decode(ty, block, &mut decoded);
            if decoded.iter().all(|x| x.abs() < 1e3) && decoded.iter().any(|x| x.abs() > 1e-3) {
                return;
            }
        }
    }

    fn product(pool: &Pool, weights: &Matrix, x: &[f32], tokens: Option<&[u32]>) -> Vec<f32> {
        let x = Activations::new(x, weights.cols());
        let count = tokens.map_or(x.rows(), <[u32]>::len);
        let mut out = vec![f32::NAN; count * weights.rows()];
        matmul(pool, &x, &mut [Product { weights, bias: None, tokens, store: Store::Set, out: &mut out }]);
        out
    }

    fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.iter().copied().filter(|isa| isa.available())
    }

    #[test]
    fn bits_do_not_depend_on_cpu_threads_or_batch() {
        let scalar = Pool::with_isa(1, Isa::Scalar);
        for ty in types() {
            for (rows, blocks, tokens) in [(1, 1, 1), (37, 2, 3), (16, 1, 17), (83, 3, 41), (37, 35, 3)] {
                let cols = blocks * ty.block_len().max(24);
                let weights = matrix(ty, rows, cols);
                let x = numbers(1, tokens * cols);
                let one_by_one: Vec<f32> = x.chunks(cols).flat_map(|x| product(&scalar, &weights, x, None)).collect();
                for isa in available() {
                    let pool = Pool::with_isa(1 + rows % 3, isa);
                    let found = product(&pool, &weights, &x, None);
                    assert!(
                        found.iter().zip(&one_by_one).all(|(a, b)| a.to_bits() == b.to_bits()),
                        "{ty} on {isa}: {rows} x {cols}, {tokens} tokens"
                    );
                }
            }
        }
    }

    #[test]
    fn codes_and_scales_at_their_limits_are_exact() {
        let scalar = Pool::with_isa(1, Isa::Scalar);
        for ty in types().filter(|&ty| Input::of(ty).is_quantized()) {
            const ONE: f32 = 127.0 / 128.0;
            let cols = 512;
            // Bytes of ones and zeros are the greatest and least codes and scales; floats are kept finite below.
            let rows: Vec<Vec<u8>> = [0xff, 0x00, 0x80, 0x7f, 0xf0].map(|b| vec![b; ty.row_bytes(cols)]).into();
            let mut bytes = rows.concat();
            let halves: &[usize] = match ty {
                TensorType::Q2_K => &[80, 82],
                TensorType::Q3_K => &[108],
                TensorType::Q6_K => &[208],
                TensorType::TQ1_0 => &[52],
                TensorType::TQ2_0 => &[64],
                TensorType::MXFP4 | TensorType::IQ1_M => &[],
                TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
                _ => &[0],
            };
            let half = half::f16::from_f32(0.37);
            for block in bytes.chunks_mut(ty.block_bytes()) {
                match ty {
                    TensorType::MXFP4 => block[0] = 120,
                    // Four bits in each of four words.
                    TensorType::IQ1_M => {
                        for (i, word) in block[48..].chunks_mut(2).enumerate() {
                            word[1] = word[1] & 15 | ((half.to_bits() >> (4 * i) & 15) as u8 * 16);
                        }
                    }
                    _ => {}
                }
                for &at in halves {
                    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
                }
            }
            let weights = Matrix::new(ty, rows.len(), cols, Bytes::new(bytes)).unwrap();
            // All columns, every second, and every third one of both signs. 127 / 128 is a code exactly.
            let x: Vec<f32> = (0..cols * 8)
                .map(|i| match (i / cols, i % cols) {
                    (row, _) if row < 2 => 1.0 - 2.0 * row as f32,
                    (row, column) if row < 4 => (column % 2) as f32 * (5.0 - 2.0 * row as f32),
                    (row, column) => [1.0, -1.0, 0.0][(row + column) % 3],
                })
                .map(|x| x * ONE)
                .collect();
            let truth = product(&scalar, &weights, &x, None);
            for isa in available() {
                assert_eq!(product(&Pool::with_isa(1, isa), &weights, &x, None), truth, "{ty} on {isa}");
            }
            let mut row = vec![0.0; cols];
            weights.decode_row(0, &mut row);
            let sum: f64 = row.iter().map(|&w| f64::from(w * ONE)).sum();
            assert!((f64::from(truth[0]) - sum).abs() <= 1e-5 * sum.abs(), "{ty}: {} for {sum}", truth[0]);
        }
    }

    #[test]
    fn bits_do_not_depend_on_factors_and_scales_that_powers_cannot_make() {
        let scalar = Pool::with_isa(1, Isa::Scalar);
        for ty in types().filter(|&ty| matches!(Input::of(ty), Input::Blocks | Input::LongBlocks)) {
            let (rows, cols) = (70, 2048);
            let (block, row_bytes) = (ty.block_bytes(), ty.row_bytes(cols));
            let mut bytes = matrix(ty, rows, cols).bytes().to_vec();
            // Factors of zero, of the smallest and of a large magnitude in three of five groups of sixteen rows.
            bytes[3 * row_bytes + 2 * block..][..block].fill(0);
            bytes[18 * row_bytes + 40 * block..][..block].fill(1);
            bytes[69 * row_bytes..][..2].fill(0x7a);
            let weights = Matrix::new(ty, rows, cols, Bytes::new(bytes)).unwrap();
            // Input of magnitudes far from one in two of four groups of tokens, and zeros in the third.
            let mut x = numbers(5, 32 * cols);
            x[9 * cols..10 * cols].iter_mut().for_each(|x| *x *= 1e30);
            x[17 * cols + 64..18 * cols].iter_mut().for_each(|x| *x *= 1e-36);
            x[30 * cols..31 * cols].fill(0.0);
            let truth = product(&scalar, &weights, &x, None);
            for isa in available() {
                let found = product(&Pool::with_isa(1, isa), &weights, &x, None);
                assert!(found.iter().zip(&truth).all(|(a, b)| a.to_bits() == b.to_bits()), "{ty} on {isa}");
            }
        }
    }

    #[test]
    fn products_are_those_of_decoded_weights_and_the_input_as_it_is_quantized() {
        let pool = Pool::new(1);
        for ty in types() {
            let weights = matrix(ty, 5, 512);
            let x = numbers(3, 512);
            let found = product(&pool, &weights, &x, None);
            let input = Activations::new(&x, 512);
            input.prepare(&pool, ty);
            let form = Input::of(ty);
            let quantized = form.is_quantized().then(|| input.prepared(form));
            let len = form.block_len();
            let x = quantized
                .map_or_else(|| x.clone(), |q| (0..512).map(|i| f32::from(q.codes[i]) * q.scales[i / len]).collect());
            let bound = if form == Input::Bf16 { 4e-3 } else { 1e-5 };
            let mut row = vec![0.0; 512];
            for (r, found) in found.iter().enumerate() {
                weights.decode_row(r, &mut row);
                let truth: f64 = row.iter().zip(&x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                let size: f64 = row.iter().zip(&x).map(|(&w, &x)| (f64::from(w) * f64::from(x)).powi(2)).sum();
                assert!((f64::from(*found) - truth).abs() <= bound * size.sqrt(), "{ty}: {found} for {truth}");
            }
        }
    }

    #[test]
    fn listed_tokens_biases_and_sums() {
        for ty in [TensorType::F16, TensorType::Q4_K, TensorType::Q8_0] {
            let weights = matrix(ty, 70, 256);
            let x = numbers(5, 20 * 256);
            let bias = numbers(6, 70);
            let all = product(&Pool::with_isa(1, Isa::Scalar), &weights, &x, None);
            for isa in available() {
                let pool = Pool::with_isa(2, isa);
                for list in [vec![19u32], vec![3, 4, 9], (0..20).rev().collect::<Vec<_>>()] {
                    let mut out = vec![1.5; list.len() * 70];
                    let input = Activations::new(&x, 256);
                    let (bias, tokens) = (Some(bias.as_slice()), Some(list.as_slice()));
                    let product = Product { weights: &weights, bias, tokens, store: Store::Add, out: &mut out };
                    matmul(&pool, &input, &mut [product]);
                    for (&token, row) in list.iter().zip(out.chunks(70)) {
                        let sums = all[token as usize * 70..].iter().zip(bias.unwrap());
                        let wanted: Vec<f32> = sums.take(70).map(|(v, b)| 1.5 + (v + b)).collect();
                        assert_eq!(row, wanted, "{ty} on {isa}, {} tokens", list.len());
                    }
                }
            }
        }
    }

    #[test]
    fn gates_meet_their_ups() {
        let (gate, up) = (matrix(TensorType::Q6_K, 33, 256), matrix(TensorType::Q8_0, 33, 256));
        let x = numbers(5, 9 * 256);
        let scalar = Pool::with_isa(1, Isa::Scalar);
        let mut wanted = product(&scalar, &gate, &x, None);
        Activation::Silu.apply_gated(&mut wanted, &product(&scalar, &up, &x, None));
        for isa in available() {
            let mut out = vec![0.0; 9 * 33];
            let input = Activations::new(&x, 256);
            let (gate_bias, up_bias, tokens, activation) = (None, None, None, Activation::Silu);
            let product = GatedProduct { gate: &gate, up: &up, gate_bias, up_bias, activation, tokens, out: &mut out };
            gated(&Pool::with_isa(2, isa), &input, &mut [product]);
            assert_eq!(out, wanted, "{isa}");
        }
    }
}
