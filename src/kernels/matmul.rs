//! Products of whole matrices: shared out over the pool in strips of rows, with bias, activation and residual sum
//! at the end of each strip.

#![allow(unsafe_code, reason = "strips of one output are written by several threads")]

use std::marker::PhantomData;
use std::ops::Range;

use super::rows::{RowsProduct, Tokens};
use super::{Activation, Activations, Matrix, Pool};

/// Rows of a strip where many tokens share them.
const STRIP: usize = 32;
/// Most rows of a strip where there are few tokens.
const LONG_STRIP: usize = 256;
/// Tokens from which a strip is short.
const MANY_TOKENS: usize = 8;

/// What becomes of a product.
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
    /// Of the gate.
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
    /// Gate of `weights`, which is then the up matrix.
    gate: Option<(&'a Matrix, Option<&'a [f32]>, Activation)>,
    tokens: Tokens<'a>,
    store: Store,
    out: Output<'a>,
}

/// All products over the rows of `x`, in one parallel region.
///
/// # Panics
/// If shapes do not agree.
pub fn matmul(pool: &Pool, x: &Activations<'_>, products: &mut [Product<'_>]) {
    let work: Vec<Work<'_>> = products
        .iter_mut()
        .map(|p| {
            let tokens = p.tokens.map_or(Tokens::First(x.rows()), Tokens::Listed);
            let out = Output::new(p.out, p.weights.rows(), tokens.len());
            Work { weights: p.weights, bias: p.bias, gate: None, tokens, store: p.store, out }
        })
        .collect();
    run(pool, x, &work);
}

/// All gated products over the rows of `x`, in one parallel region.
///
/// # Panics
/// If shapes do not agree.
pub fn gated(pool: &Pool, x: &Activations<'_>, products: &mut [GatedProduct<'_>]) {
    let work: Vec<Work<'_>> = products
        .iter_mut()
        .map(|p| {
            assert_eq!((p.gate.rows(), p.gate.cols()), (p.up.rows(), p.up.cols()), "gate and up differ");
            let tokens = p.tokens.map_or(Tokens::First(x.rows()), Tokens::Listed);
            let out = Output::new(p.out, p.up.rows(), tokens.len());
            let gate = Some((p.gate, p.gate_bias, p.activation));
            Work { weights: p.up, bias: p.up_bias, gate, tokens, store: Store::Set, out }
        })
        .collect();
    run(pool, x, &work);
}

fn run(pool: &Pool, x: &Activations<'_>, work: &[Work<'_>]) {
    let mut strips = Vec::new();
    for (i, w) in work.iter().enumerate() {
        assert_eq!(w.weights.cols(), x.cols(), "rows of {} weights and {} inputs", w.weights.cols(), x.cols());
        let rows = w.weights.rows();
        assert!(w.bias.is_none_or(|bias| bias.len() == rows), "a bias for {rows} rows");
        x.prepare(pool, w.weights.ty());
        if let Some((gate, ..)) = w.gate {
            x.prepare(pool, gate.ty());
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
        work[*i].strip(pool, x, rows);
    });
}

impl Work<'_> {
    fn strip(&self, pool: &Pool, x: &Activations<'_>, rows: &Range<usize>) {
        let (tokens, width) = (self.tokens.len(), rows.len());
        let product = |weights: &Matrix, bias: Option<&[f32]>| {
            let mut tile = vec![0.0; tokens * width];
            pool.isa().run(RowsProduct { weights, rows: rows.clone(), x, tokens: self.tokens, out: &mut tile });
            if let Some(bias) = bias {
                for row in tile.chunks_exact_mut(width) {
                    row.iter_mut().zip(&bias[rows.clone()]).for_each(|(v, b)| *v += b);
                }
            }
            tile
        };
        let mut tile = product(self.weights, self.bias);
        if let Some((gate, bias, activation)) = self.gate {
            let mut gates = product(gate, bias);
            activation.apply_gated(&mut gates, &tile);
            tile = gates;
        }
        for (t, row) in tile.chunks_exact(width).enumerate() {
            // SAFETY: strips of one output are disjoint ranges of rows, and each is one task.
            let out = unsafe { self.out.columns(t, rows) };
            match self.store {
                Store::Set => out.copy_from_slice(row),
                Store::Add => out.iter_mut().zip(row).for_each(|(o, v)| *o += v),
            }
        }
    }
}
