//! One tile of keys and values in an online softmax: scores, running maximum and sum, weighted values.
//!
//! Keys lie so that lanes are positions, values so that lanes are elements; no sum runs across lanes but those of a
//! row's probabilities. Scores are in units of `ln 2`, so that the exponential is a power of two.

#![allow(unsafe_code, reason = "register tiles read and write through raw pointers")]

use super::lanes::{Columns, Kernel, LANES, Lanes, Product, exp2, tanh_half_ln2};
use super::vector::tree_sum;

/// Positions of a tile.
pub(crate) const TILE: usize = 64;
/// Up to so many rows, a tile is waited for longer than it is computed with.
const FEW_ROWS: usize = 8;

/// Numbers of a tile, in the type of the cache.
#[derive(Clone, Copy)]
pub(crate) enum Numbers<'a> {
    F32(&'a [f32]),
    /// Half precision, as bits.
    F16(&'a [u16]),
}

impl<'a> Numbers<'a> {
    fn f32(self) -> Option<&'a [f32]> {
        if let Self::F32(x) = self { Some(x) } else { None }
    }

    fn f16(self) -> Option<&'a [u16]> {
        if let Self::F16(x) = self { Some(x) } else { None }
    }

    fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
        }
    }
}

/// Rows (a query of a head each) in the middle of their softmax.
pub(crate) struct Softmax {
    /// Greatest score so far.
    pub(crate) max: Vec<f32>,
    /// Sum of the powers, relative to the greatest.
    pub(crate) sum: Vec<f32>,
    /// Sum of powers times values: `[rows, width]`.
    pub(crate) values: Vec<f32>,
    /// Elements of a row of values, a multiple of 16.
    pub(crate) width: usize,
}

impl Softmax {
    /// Rows that have seen no key.
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        let width = width.next_multiple_of(LANES);
        Self { max: vec![f32::NEG_INFINITY; rows], sum: vec![0.0; rows], values: vec![0.0; rows * width], width }
    }

    /// Forgets all keys.
    pub(crate) fn reset(&mut self) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        self.values.fill(0.0);
    }

    /// Joins rows that have seen later keys. Rows without keys leave the others as they are.
    pub(crate) fn merge(&mut self, later: &Self) {
        for row in 0..self.max.len() {
            let max = self.max[row].max(later.max[row]);
            if later.max[row] == f32::NEG_INFINITY {
                continue;
            }
            let (own, other) = (power(self.max[row] - max), power(later.max[row] - max));
            self.max[row] = max;
            self.sum[row] = self.sum[row] * own + later.sum[row] * other;
            let range = row * self.width..(row + 1) * self.width;
            for (v, l) in self.values[range.clone()].iter_mut().zip(&later.values[range]) {
                *v = *v * own + *l * other;
            }
        }
    }

    /// Adds the sinks' share to row `row`: a score without value.
    pub(crate) fn add_sink(&mut self, row: usize, score: f32) {
        let max = self.max[row].max(score);
        let own = power(self.max[row] - max);
        self.sum[row] = self.sum[row] * own + power(score - max);
        self.max[row] = max;
        self.values[row * self.width..(row + 1) * self.width].iter_mut().for_each(|v| *v *= own);
    }
}

/// `2^x`, with the polynomial that the lanes use.
fn power(x: f32) -> f32 {
    use super::lanes::Scalar;
    exp2(Scalar, [x; LANES])[0]
}

/// A tile of up to 64 keys and values for some rows.
pub(crate) struct AttendTile<'a> {
    /// Scaled queries, `[rows, k_dim]`.
    pub(crate) queries: &'a [f32],
    pub(crate) k_dim: usize,
    /// `[4, k_dim, 16]`: sixteen positions side by side.
    pub(crate) keys: Numbers<'a>,
    /// `[64, width]`.
    pub(crate) values: Numbers<'a>,
    /// Keys and values of the tile that comes next, where it pays to fetch them early.
    pub(crate) next: Option<(Numbers<'a>, Numbers<'a>)>,
    /// The positions of the tile that each row sees, from and to.
    pub(crate) visible: &'a [(usize, usize)],
    /// Scores are squashed to this range (in their units of `ln 2`).
    pub(crate) softcap: Option<f32>,
    /// `[rows, 64]`.
    pub(crate) scores: &'a mut [f32],
    pub(crate) state: &'a mut Softmax,
}

impl Kernel for AttendTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, width) = (self.visible.len(), self.state.width);
        assert!(self.queries.len() == rows * self.k_dim && self.scores.len() == rows * TILE);
        assert!(self.keys.len() == TILE * self.k_dim && self.values.len() == TILE * width);
        assert!(self.state.max.len() == rows && self.state.sum.len() == rows);
        assert!(self.state.values.len() == rows * width);
        let scores = Product {
            left: self.queries.as_ptr(),
            left_stride: self.k_dim,
            out: self.scores.as_mut_ptr(),
            out_stride: TILE,
            accumulate: false,
        };
        let k_dim = self.k_dim;
        let (next_keys, next_values) = self.next.filter(|_| rows <= FEW_ROWS).unzip();
        // SAFETY: lengths have been checked above.
        unsafe {
            match self.keys {
                Numbers::F32(keys) => {
                    let keys_at = |keys: &[f32]| Keys { start: keys.as_ptr(), k_dim };
                    let next = next_keys.and_then(Numbers::f32).map(keys_at);
                    tiles_ahead(l, scores, keys_at(keys), next, rows, 4, k_dim);
                }
                Numbers::F16(keys) => {
                    let keys_at = |keys: &[u16]| HalfKeys { start: keys.as_ptr(), k_dim };
                    let next = next_keys.and_then(Numbers::f16).map(keys_at);
                    tiles_ahead(l, scores, keys_at(keys), next, rows, 4, k_dim);
                }
            }
        }
        // Only the positions up to the last that any row sees carry weight.
        let depth = self.visible.iter().map(|&(_, to)| to).max().unwrap_or(0);
        for row in 0..rows {
            self.weigh(l, row);
        }
        let sums = Product {
            left: self.scores.as_ptr(),
            left_stride: TILE,
            out: self.state.values.as_mut_ptr(),
            out_stride: width,
            accumulate: true,
        };
        // SAFETY: as above.
        unsafe {
            let vectors = width / LANES;
            match self.values {
                Numbers::F32(values) => {
                    let values_at = |values: &[f32]| Values { start: values.as_ptr(), width };
                    let next = next_values.and_then(Numbers::f32).map(values_at);
                    tiles_ahead(l, sums, values_at(values), next, rows, vectors, depth);
                }
                Numbers::F16(values) => {
                    let values_at = |values: &[u16]| HalfValues { start: values.as_ptr(), width };
                    let next = next_values.and_then(Numbers::f16).map(values_at);
                    tiles_ahead(l, sums, values_at(values), next, rows, vectors, depth);
                }
            }
        }
    }
}

impl AttendTile<'_> {
    /// Turns a row's scores into powers relative to its new maximum, and moves its sums to that.
    #[inline(always)]
    fn weigh<L: Lanes>(&mut self, l: L, row: usize) {
        let (from, to) = self.visible[row];
        let Some((scores, _)) = self.scores[row * TILE..].split_first_chunk_mut::<TILE>() else { return };
        let vectors = scores.as_chunks_mut::<LANES>().0;
        if let Some(cap) = self.softcap {
            let inverse = 2.0 * std::f32::consts::LOG2_E / cap;
            for v in &mut *vectors {
                let x = l.mul(l.array(v), l.splat(inverse));
                *v = l.to_array(l.mul(l.splat(cap), tanh_half_ln2(l, x)));
            }
        }
        let scores = vectors.as_flattened_mut();
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..].fill(f32::NEG_INFINITY);
        let vectors = scores.as_chunks_mut::<LANES>().0;
        let mut max = l.splat(f32::NEG_INFINITY);
        for v in &*vectors {
            max = l.max(max, l.array(v));
        }
        let old = self.state.max[row];
        let max = l.max_lane(max).max(old);
        if max == f32::NEG_INFINITY {
            vectors.as_flattened_mut().fill(0.0);
            return;
        }
        let mut sum = l.splat(0.0);
        for v in vectors {
            let p = exp2(l, l.sub(l.array(v), l.splat(max)));
            sum = l.add(sum, p);
            *v = l.to_array(p);
        }
        let keep = power(old - max);
        self.state.max[row] = max;
        self.state.sum[row] = self.state.sum[row] * keep + tree_sum(&l.to_array(sum));
        if keep != 1.0 {
            let width = self.state.width;
            self.state.values[row * width..(row + 1) * width].iter_mut().for_each(|v| *v *= keep);
        }
    }
}

/// As [`tiles`]; meanwhile what stands at the same places of `next` is fetched.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn tiles_ahead<L: Lanes, C: TileColumns<L>>(
    l: L,
    p: Product,
    columns: C,
    next: Option<C>,
    rows: usize,
    vectors: usize,
    depth: usize,
) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match next {
            None => tiles(l, p, columns, rows, vectors, depth),
            Some(next) => tiles(l, p, Ahead { columns, next }, rows, vectors, depth),
        }
    }
}

/// All register tiles of a product of `rows` rows and `vectors` vectors.
///
/// # Safety
/// As [`Lanes::multiply`], for all rows and vectors.
#[inline(always)]
unsafe fn tiles<L: Lanes, C: TileColumns<L>>(l: L, p: Product, columns: C, rows: usize, vectors: usize, depth: usize) {
    let mut vector = 0;
    while vector < vectors {
        let wide = L::WIDE && vectors - vector >= 4;
        let step = if wide { 4 } else { 1 };
        let mut row = 0;
        while row < rows {
            // SAFETY: row and vector are inside, as the caller vouches.
            unsafe {
                let p = Product {
                    left: p.left.add(row * p.left_stride),
                    out: p.out.add(row * p.out_stride + vector * LANES),
                    ..p
                };
                let columns = columns.at_vector(vector);
                match (rows - row >= 4, wide) {
                    (true, true) => l.multiply::<C, 4, 4>(p, columns, 0..depth),
                    (true, false) => l.multiply::<C, 4, 1>(p, columns, 0..depth),
                    (false, true) => l.multiply::<C, 1, 4>(p, columns, 0..depth),
                    (false, false) => l.multiply::<C, 1, 1>(p, columns, 0..depth),
                }
            }
            row += if rows - row >= 4 { 4 } else { 1 };
        }
        vector += step;
    }
}

/// Columns of a tile.
trait TileColumns<L: Lanes>: Columns<L> {
    /// The columns from `vector` on.
    ///
    /// # Safety
    /// There must be such a vector.
    unsafe fn at_vector(self, vector: usize) -> Self;

    /// Fetches what [`Columns::load`] will load.
    fn prefetch(self, lanes: L, depth: usize, vector: usize);
}

/// Columns whose loads fetch those of the next tile.
#[derive(Clone, Copy)]
struct Ahead<C> {
    columns: C,
    next: C,
}

impl<L: Lanes, C: TileColumns<L>> Columns<L> for Ahead<C> {
    #[inline(always)]
    unsafe fn load(self, lanes: L, depth: usize, vector: usize) -> L::Float {
        self.next.prefetch(lanes, depth, vector);
        // SAFETY: the caller vouches for both indices.
        unsafe { self.columns.load(lanes, depth, vector) }
    }
}

impl<L: Lanes, C: TileColumns<L>> TileColumns<L> for Ahead<C> {
    #[inline(always)]
    unsafe fn at_vector(self, vector: usize) -> Self {
        // SAFETY: the caller vouches for the vector, and both tiles are of one shape.
        unsafe { Self { columns: self.columns.at_vector(vector), next: self.next.at_vector(vector) } }
    }

    #[inline(always)]
    fn prefetch(self, lanes: L, depth: usize, vector: usize) {
        self.next.prefetch(lanes, depth, vector);
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident { $stride:ident }, $number:ty, $load:ident, at $at:expr, from $from:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        struct $name {
            start: *const $number,
            $stride: usize,
        }

        impl<L: Lanes> Columns<L> for $name {
            #[inline(always)]
            unsafe fn load(self, lanes: L, depth: usize, vector: usize) -> L::Float {
                let at: fn(usize, usize, usize) -> usize = $at;
                // SAFETY: the caller vouches for both indices.
                unsafe { lanes.$load(self.start.add(at(self.$stride, depth, vector))) }
            }
        }

        impl<L: Lanes> TileColumns<L> for $name {
            #[inline(always)]
            fn prefetch(self, lanes: L, depth: usize, vector: usize) {
                let at: fn(usize, usize, usize) -> usize = $at;
                lanes.prefetch(self.start.wrapping_add(at(self.$stride, depth, vector)));
            }

            #[inline(always)]
            unsafe fn at_vector(self, vector: usize) -> Self {
                let from: fn(usize, usize) -> usize = $from;
                // SAFETY: the caller vouches for the vector.
                Self { start: unsafe { self.start.add(from(self.$stride, vector)) }, ..self }
            }
        }
    )*};
}

columns! {
    /// `[vectors, k_dim, 16]`.
    Keys { k_dim }, f32, load, at |k_dim, d, v| (v * k_dim + d) * LANES, from |k_dim, v| v * k_dim * LANES;
    /// The same in half precision.
    HalfKeys { k_dim }, u16, load_half, at |k_dim, d, v| (v * k_dim + d) * LANES, from |k_dim, v| v * k_dim * LANES;
    /// `[positions, width]`.
    Values { width }, f32, load, at |width, position, v| position * width + v * LANES, from |_, v| v * LANES;
    /// The same in half precision.
    HalfValues { width }, u16, load_half, at |width, position, v| position * width + v * LANES, from |_, v| v * LANES;
}
