//! One tile of keys and values in an online softmax: scores, running maximum and sum, weighted values.
//!
//! Keys are laid out so that lanes are positions, values so that lanes are elements; the only sums across lanes are those
//! of a row's probabilities. Scores are in units of `ln 2`, so that the exponential is a power of two. Rows are processed in
//! groups of sixteen: one vector holds one number of each row. A register tile is the product of a group with one vector of
//! keys or values; the vector is converted once and multiplied with sixteen broadcasts from memory.

#![allow(unsafe_code, reason = "register tiles read and write through raw pointers")]

use std::ops::Range;

use crate::simd::Isa;
use crate::simd::LANES;
use crate::simd::lanes::{Columns, Kernel, Lanes, Product, Rows, exp2, tanh_half_ln2};

/// Positions of a tile.
pub(crate) const TILE: usize = 64;
/// Vectors of positions of a tile.
const VECTORS: usize = TILE / LANES;
/// Up to this many rows, loading a tile takes longer than computing with it.
const FEW_ROWS: usize = 8;
/// With up to this many rows in a group, only these are computed; with more, the whole group is.
const PART_OF_BLOCK: usize = 12;

/// The numbers of a tile, in the element type of the cache.
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

/// The running softmax of some rows, in borrowed memory; a row is the query of one head.
pub(crate) struct Softmax<'a> {
    rows: usize,
    /// Greatest score so far, one vector for each group of rows.
    max: &'a mut [[f32; LANES]],
    /// Sum of the powers of two, relative to the greatest score.
    sum: &'a mut [[f32; LANES]],
    /// Sum of powers times values: `[blocks, 16, width]`.
    values: &'a mut [f32],
    /// Elements of a row of values, a multiple of 16.
    width: usize,
}

impl<'a> Softmax<'a> {
    /// Elements of the memory for `rows` rows.
    pub(crate) fn len(rows: usize, v_dim: usize) -> usize {
        rows.div_ceil(LANES) * LANES * (2 + v_dim.next_multiple_of(LANES))
    }

    /// The rows in `memory`, of [`Self::len`] elements. The memory is taken as it is: new rows need a [`Self::reset`] first.
    pub(crate) fn within(memory: &'a mut [f32], rows: usize, v_dim: usize) -> Self {
        let (blocks, width) = (rows.div_ceil(LANES), v_dim.next_multiple_of(LANES));
        assert_eq!(memory.len(), Self::len(rows, v_dim), "memory of {rows} rows of {v_dim}");
        let (max, rest) = memory.split_at_mut(blocks * LANES);
        let (sum, values) = rest.split_at_mut(blocks * LANES);
        Self { rows, max: max.as_chunks_mut().0, sum: sum.as_chunks_mut().0, values, width }
    }

    /// Forgets all keys.
    pub(crate) fn reset(&mut self) {
        self.max.fill([f32::NEG_INFINITY; LANES]);
        self.sum.fill([0.0; LANES]);
        self.values.fill(0.0);
    }

    /// Adds an attention sink to row `row`, before any key: a score without a value.
    pub(crate) fn see_sink(&mut self, row: usize, score: f32) {
        (self.max[row / LANES][row % LANES], self.sum[row / LANES][row % LANES]) = (score, 1.0);
    }

    /// Merges the softmax of the same rows over later keys into this one. Rows without keys change nothing.
    pub(crate) fn merge(&mut self, isa: Isa, later: &Softmax<'_>) {
        isa.run(Merge { state: self, later });
    }

    /// Divides the values by the sums and writes one row of `v_dim` elements to each of `out`.
    pub(crate) fn finish<'b>(&self, isa: Isa, v_dim: usize, out: impl Iterator<Item = &'b mut [f32]>) {
        isa.run(Finish { state: self, v_dim, out });
    }
}

/// [`Softmax::merge`].
struct Merge<'a, 'b, 'c> {
    state: &'a mut Softmax<'b>,
    later: &'a Softmax<'c>,
}

impl Kernel for Merge<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { state, later } = self;
        assert!(state.rows == later.rows && state.width == later.width);
        for block in 0..state.max.len() {
            let (own, other) = (l.array(&state.max[block]), l.array(&later.max[block]));
            let max = l.max(own, other);
            let base = finite(l, max);
            let (own, other) = (exp2(l, l.sub(own, base)), exp2(l, l.sub(other, base)));
            let sums = (l.mul(l.array(&state.sum[block]), own), l.mul(l.array(&later.sum[block]), other));
            let before = std::mem::replace(&mut state.max[block], l.to_array(max));
            state.sum[block] = l.to_array(l.add(sums.0, sums.1));
            let (own, other) = (l.to_array(own), l.to_array(other));
            for row in block * LANES..((block + 1) * LANES).min(state.rows) {
                let range = row * state.width..(row + 1) * state.width;
                if later.max[block][row % LANES] == f32::NEG_INFINITY {
                    continue;
                }
                if before[row % LANES] == f32::NEG_INFINITY {
                    state.values[range.clone()].copy_from_slice(&later.values[range]);
                    continue;
                }
                let values = state.values[range.clone()].as_chunks_mut::<LANES>().0;
                for (v, later) in values.iter_mut().zip(later.values[range].as_chunks::<LANES>().0) {
                    let own = l.mul(l.array(v), l.splat(own[row % LANES]));
                    *v = l.to_array(l.add(own, l.mul(l.array(later), l.splat(other[row % LANES]))));
                }
            }
        }
    }
}

/// [`Softmax::finish`].
struct Finish<'a, 'b, O> {
    state: &'a Softmax<'b>,
    v_dim: usize,
    out: O,
}

impl<'o, O: Iterator<Item = &'o mut [f32]>> Kernel for Finish<'_, '_, O> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let mut rows = self.state.values.chunks_exact(self.state.width).zip(self.state.sum.as_flattened());
        for out in self.out {
            for (out, (values, sum)) in out.chunks_exact_mut(self.v_dim).zip(&mut rows) {
                let inverse = 1.0 / sum;
                out.iter_mut().zip(values).for_each(|(out, v)| *out = v * inverse);
            }
        }
    }
}

/// `max`, with zero in place of minus infinity (subtracting minus infinity from itself gives NaN).
#[inline(always)]
fn finite<L: Lanes>(l: L, max: L::Float) -> L::Float {
    l.select_lt(l.splat(f32::NEG_INFINITY), max, max, l.splat(0.0))
}

/// Packs queries for [`AttendTile`]: multiplied by `scale`, in groups `[k_dim, 16]` with sixteen rows side by side.
pub(crate) struct PackQueries<'a> {
    /// Each of `k_dim` elements.
    pub(crate) rows: &'a [&'a [f32]],
    pub(crate) k_dim: usize,
    pub(crate) scale: f32,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for PackQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let blocks = self.out.as_chunks_mut::<LANES>().0.chunks_exact_mut(self.k_dim);
        for (rows, block) in self.rows.chunks(LANES).zip(blocks) {
            for (first, out) in (0..self.k_dim).step_by(LANES).zip(block.chunks_mut(LANES)) {
                let columns = side_by_side(l, rows, first);
                for (out, column) in out.iter_mut().zip(columns) {
                    *out = l.to_array(l.mul(column, l.splat(self.scale)));
                }
            }
        }
    }
}

/// Sixteen columns of up to sixteen rows, from column `first` on, one vector for each column. Missing rows and columns are zero.
#[inline(always)]
fn side_by_side<L: Lanes>(l: L, rows: &[&[f32]], first: usize) -> [L::Float; LANES] {
    let mut vectors = [l.splat(0.0); LANES];
    for (vector, row) in vectors.iter_mut().zip(rows) {
        let row = &row[first..];
        *vector = match row.first_chunk() {
            Some(row) => l.array(row),
            None => {
                let mut padded = [0.0; LANES];
                padded[..row.len()].copy_from_slice(row);
                l.array(&padded)
            }
        };
    }
    l.transpose(vectors)
}

/// What a row's scores fall by with the distance of a key that stands before its query.
#[derive(Clone, Copy)]
pub(crate) struct Bias {
    /// A position, in the scores' units of `ln 2`.
    slope: f32,
    /// The tile's first position, relative to the query's.
    first: f32,
}

impl Bias {
    /// Of a query at `position`, for the tile that begins with the position `tile`.
    pub(crate) fn new(slope: f32, tile: usize, position: usize) -> Self {
        // Whole numbers far below 2^24 in either direction, or so far away that they do not count.
        Self { slope: slope * std::f32::consts::LOG2_E, first: (tile as i64 - position as i64) as f32 }
    }
}

/// A tile of up to 64 keys and values for some rows.
pub(crate) struct AttendTile<'a, 'b> {
    /// Scaled queries, in blocks of sixteen rows: `[blocks, k_dim, 16]`.
    pub(crate) queries: &'a [f32],
    pub(crate) k_dim: usize,
    /// `[4, k_dim, 16]`: sixteen positions side by side.
    pub(crate) keys: Numbers<'a>,
    /// `[64, width]`.
    pub(crate) values: Numbers<'a>,
    /// Keys and values of the next tile, where prefetching them pays.
    pub(crate) next: Option<(Numbers<'a>, Numbers<'a>)>,
    /// The positions of the tile that each row sees, as start and end.
    pub(crate) visible: &'a [(usize, usize)],
    /// Of each row; none where scores have none.
    pub(crate) biases: &'a [Bias],
    /// Of each row, bit `i` for position `i` of the tile: whether it sees the position; none where rows see all that is visible.
    pub(crate) masks: &'a [u64],
    /// Scores are squashed to this range (in their units of `ln 2`).
    pub(crate) softcap: Option<f32>,
    pub(crate) state: &'a mut Softmax<'b>,
}

impl Kernel for AttendTile<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (rows, width) = (self.visible.len(), self.state.width);
        assert!(self.queries.len() == rows.next_multiple_of(LANES) * self.k_dim && self.state.rows == rows);
        assert!(self.keys.len() == TILE * self.k_dim && self.values.len() == TILE * width);
        assert!(self.visible.iter().all(|&(from, to)| from <= to && to <= TILE));
        self.next = self.next.filter(|_| rows <= FEW_ROWS);
        let mut scores = Scores([[[0.0; LANES]; VECTORS]; LANES]);
        for (block, visible) in self.visible.chunks(LANES).enumerate() {
            // The positions that any of these rows sees; all others have no weight.
            let (from, to) = visible.iter().fold((TILE, 0), |(from, to), v| (from.min(v.0), to.max(v.1)));
            if from >= to {
                continue;
            }
            let seen = from / LANES..to.div_ceil(LANES);
            // SAFETY: lengths have been checked above; `visible` lies inside the tile.
            unsafe { self.score(l, block, visible.len(), &seen, &mut scores) };
            let keep = self.weigh(l, block, visible, seen, &mut scores.0);
            // SAFETY: as above.
            unsafe { self.add_values(l, block, visible.len(), from..to, &scores, &keep) };
        }
    }
}

/// Scores of a block of rows, on a cache line's boundary.
#[repr(align(64))]
struct Scores([[[f32; LANES]; VECTORS]; LANES]);

impl AttendTile<'_, '_> {
    /// The scores of `rows` rows of a block and the vectors `seen` of the tile's keys.
    ///
    /// # Safety
    /// `queries` must hold the block, and `keys` must be a tile's.
    #[inline(always)]
    unsafe fn score<L: Lanes>(&self, l: L, block: usize, rows: usize, seen: &Range<usize>, scores: &mut Scores) {
        let k_dim = self.k_dim;
        let left = SideBySide(self.queries.as_ptr().wrapping_add(block * LANES * k_dim));
        let out = scores.0.as_flattened_mut()[seen.start..].as_flattened_mut().as_mut_ptr();
        let product = Product { left, out, out_stride: TILE, keep: None };
        let next = self.next.map(|(keys, _)| keys);
        // SAFETY: the caller vouches for queries and keys; `scores` has sixteen rows of a tile's vectors.
        unsafe {
            match self.keys {
                Numbers::F32(keys) => {
                    let keys_at = |keys: &[f32]| Keys { start: keys.as_ptr(), k_dim };
                    let next = next.and_then(Numbers::f32).map(keys_at);
                    tiles_ahead(l, product, keys_at(keys), next, rows, seen.clone(), 0..k_dim);
                }
                Numbers::F16(keys) => {
                    let keys_at = |keys: &[u16]| HalfKeys { start: keys.as_ptr(), k_dim };
                    let next = next.and_then(Numbers::f16).map(keys_at);
                    tiles_ahead(l, product, keys_at(keys), next, rows, seen.clone(), 0..k_dim);
                }
            }
        }
    }

    /// Turns the scores of a group into powers relative to the new maximum of their rows, and rescales the sums. Returns the
    /// factors by which the values have to be rescaled.
    #[inline(always)]
    fn weigh<L: Lanes>(
        &mut self,
        l: L,
        block: usize,
        visible: &[(usize, usize)],
        seen: Range<usize>,
        scores: &mut [[[f32; LANES]; VECTORS]; LANES],
    ) -> [f32; LANES] {
        if let Some(cap) = self.softcap {
            let inverse = 2.0 * std::f32::consts::LOG2_E / cap;
            for row in &mut scores[..visible.len()] {
                for v in &mut row[seen.clone()] {
                    let x = l.mul(l.array(v), l.splat(inverse));
                    *v = l.to_array(l.mul(l.splat(cap), tanh_half_ln2(l, x)));
                }
            }
        }
        let places: [f32; LANES] = std::array::from_fn(|lane| lane as f32);
        for (row, bias) in scores.iter_mut().zip(self.biases.iter().skip(block * LANES).take(visible.len())) {
            for (vector, v) in row.iter_mut().enumerate().skip(seen.start).take(seen.len()) {
                let first = l.splat(bias.first + (vector * LANES) as f32);
                *v = l.to_array(l.mul_add(l.add(l.array(&places), first), l.splat(bias.slope), l.array(v)));
            }
        }
        for (row, mask) in scores.iter_mut().zip(self.masks.iter().skip(block * LANES).take(visible.len())) {
            let hidden = row.as_flattened_mut().iter_mut().enumerate().filter(|(i, _)| mask >> i & 1 == 0);
            hidden.for_each(|(_, score)| *score = f32::NEG_INFINITY);
        }
        if visible.iter().any(|&(from, to)| from > seen.start * LANES || to < seen.end * LANES) {
            for (row, &(from, to)) in scores.iter_mut().zip(visible) {
                let row = row.as_flattened_mut();
                row[seen.start * LANES..from].fill(f32::NEG_INFINITY);
                row[to..seen.end * LANES].fill(f32::NEG_INFINITY);
            }
        }
        let (rows, none) = (visible.len(), l.splat(f32::NEG_INFINITY));
        let mut greatest = [none; LANES];
        for (greatest, row) in greatest.iter_mut().zip(&scores[..rows]) {
            for v in &row[seen.clone()] {
                *greatest = l.max(*greatest, l.array(v));
            }
        }
        let old = l.array(&self.state.max[block]);
        let max = l.max(l.max_lanes(&greatest), old);
        let base = finite(l, max);
        let keep = exp2(l, l.sub(old, base));
        let base = l.to_array(base);
        let mut sums = [l.splat(0.0); LANES];
        for ((sum, row), base) in sums.iter_mut().zip(&mut scores[..rows]).zip(base) {
            for v in &mut row[seen.clone()] {
                let p = exp2(l, l.sub(l.array(v), l.splat(base)));
                *sum = l.add(*sum, p);
                *v = l.to_array(p);
            }
        }
        let sum = &mut self.state.sum[block];
        *sum = l.to_array(l.add(l.mul(l.array(sum), keep), l.sums(&sums)));
        self.state.max[block] = l.to_array(max);
        l.to_array(keep)
    }

    /// Multiplies the accumulated values of `rows` rows by `keep` and adds the values at the positions `seen`, weighted by the
    /// rows' powers.
    ///
    /// # Safety
    /// `state` must hold the block, and `values` must be a tile's.
    #[inline(always)]
    unsafe fn add_values<L: Lanes>(
        &mut self,
        l: L,
        block: usize,
        rows: usize,
        seen: Range<usize>,
        scores: &Scores,
        keep: &[f32; LANES],
    ) {
        let width = self.state.width;
        let product = Product {
            left: OneByOne(scores.0.as_flattened().as_flattened().as_ptr()),
            out: self.state.values[block * LANES * width..].as_mut_ptr(),
            out_stride: width,
            keep: Some(keep.as_ptr()),
        };
        let (vectors, next) = (0..width / LANES, self.next.map(|(_, values)| values));
        // SAFETY: the caller vouches for state and values; `scores` and `keep` have sixteen rows.
        unsafe {
            match self.values {
                Numbers::F32(values) => {
                    let values_at = |values: &[f32]| Values { start: values.as_ptr(), width };
                    let next = next.and_then(Numbers::f32).map(values_at);
                    tiles_ahead(l, product, values_at(values), next, rows, vectors, seen);
                }
                Numbers::F16(values) => {
                    let values_at = |values: &[u16]| HalfValues { start: values.as_ptr(), width };
                    let next = next.and_then(Numbers::f16).map(values_at);
                    tiles_ahead(l, product, values_at(values), next, rows, vectors, seen);
                }
            }
        }
    }
}

/// As [`tiles`], and prefetches the same places of `next`.
///
/// # Safety
/// As [`tiles`].
#[inline(always)]
unsafe fn tiles_ahead<L: Lanes, A: TileRows, C: TileColumns<L>>(
    l: L,
    p: Product<A>,
    columns: C,
    next: Option<C>,
    rows: usize,
    vectors: Range<usize>,
    depth: Range<usize>,
) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match next {
            None => tiles(l, p, columns, rows, vectors, depth),
            Some(next) => tiles(l, p, Ahead { columns, next }, rows, vectors, depth),
        }
    }
}

/// All register tiles of the product of `rows` rows of a group with the vectors `vectors` of `columns`.
///
/// # Safety
/// As [`Lanes::multiply`], for all rows of a block and all vectors.
#[inline(always)]
unsafe fn tiles<L: Lanes, A: TileRows, C: TileColumns<L>>(
    l: L,
    p: Product<A>,
    columns: C,
    rows: usize,
    vectors: Range<usize>,
    depth: Range<usize>,
) {
    let whole = L::WIDE && rows > PART_OF_BLOCK;
    let (mut vector, first) = (vectors.start, vectors.start);
    while vector < vectors.end {
        let wide = L::WIDE && !whole && vectors.end - vector >= 4;
        let mut row = 0;
        while row < rows {
            // SAFETY: row and vector are inside, as the caller vouches.
            unsafe {
                let p = Product {
                    left: p.left.at_row(row),
                    out: p.out.add(row * p.out_stride + (vector - first) * LANES),
                    keep: p.keep.map(|keep| keep.add(row)),
                    ..p
                };
                let (columns, depth) = (columns.at_vector(vector), depth.clone());
                match (rows - row >= 4, wide) {
                    _ if whole => l.multiply::<A, C, LANES, 1>(p, columns, depth),
                    (true, true) => l.multiply::<A, C, 4, 4>(p, columns, depth),
                    (true, false) => l.multiply::<A, C, 4, 1>(p, columns, depth),
                    (false, true) => l.multiply::<A, C, 1, 4>(p, columns, depth),
                    (false, false) => l.multiply::<A, C, 1, 1>(p, columns, depth),
                }
            }
            row += if whole {
                LANES
            } else if rows - row >= 4 {
                4
            } else {
                1
            };
        }
        vector += if wide { 4 } else { 1 };
    }
}

/// The left-hand matrix of a tile's product.
trait TileRows: Rows {
    /// The rows from `row` on.
    fn at_row(self, row: usize) -> Self;
}

/// `[depth, 16]`: sixteen rows side by side.
#[derive(Clone, Copy)]
struct SideBySide(*const f32);

/// `[rows, 64]`.
#[derive(Clone, Copy)]
struct OneByOne(*const f32);

impl Rows for SideBySide {
    #[inline(always)]
    unsafe fn get(self, row: usize, depth: usize) -> f32 {
        // SAFETY: the caller vouches for both indices.
        unsafe { *self.0.add(depth * LANES + row) }
    }
}

impl Rows for OneByOne {
    #[inline(always)]
    unsafe fn get(self, row: usize, depth: usize) -> f32 {
        // SAFETY: the caller vouches for both indices.
        unsafe { *self.0.add(row * TILE + depth) }
    }
}

impl TileRows for SideBySide {
    #[inline(always)]
    fn at_row(self, row: usize) -> Self {
        Self(self.0.wrapping_add(row))
    }
}

impl TileRows for OneByOne {
    #[inline(always)]
    fn at_row(self, row: usize) -> Self {
        Self(self.0.wrapping_add(row * TILE))
    }
}

/// Columns of a tile.
trait TileColumns<L: Lanes>: Columns<L> {
    /// The columns from `vector` on.
    ///
    /// # Safety
    /// There must be such a vector.
    unsafe fn at_vector(self, vector: usize) -> Self;

    /// Prefetches what [`Columns::load`] will load.
    fn prefetch(self, lanes: L, depth: usize, vector: usize);
}

/// Columns whose loads also prefetch those of the next tile.
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
