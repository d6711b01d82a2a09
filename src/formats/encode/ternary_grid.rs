//! IQ1_S and IQ1_M: the divisions of the sorted elements of a sub-block are tried side by side.
//!
//! The scalar search keeps the best division so far, and what it accepts depends on the scores of those before. Of all scores only
//! the greatest matter: a good division, found by a few steps of Lloyd's algorithm, gives a bound, and only divisions that come
//! within [`MARGIN`] of its score are tried as the scalar search does, in its order. That gives the same result as trying all:
//! the rounding errors of a score are below [`ROUNDING`], and where the tried divisions are too few to fill the margin so closely,
//! it holds a score between which and any other there is more than these. All divisions above it beat all below, tried or not.

use crate::formats::grid_search::{Grid, Lists};
use crate::formats::ternary_search::{
    Cut, DOWN, LEAST_OF_ONE, LEAST_OF_TWO, NearestEntry, OneByOne, SearchResult, TernarySearch, UP, greatest, on_grid,
    values,
};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

use super::grid::{Terms, nearest};

/// How far below a known score divisions are tried, relative to it.
const MARGIN: f32 = 0.001;
/// Relative errors of scores and of their comparison are smaller by far.
const ROUNDING: f32 = 2e-6;
/// Most divisions that are tried; with more the scalar search decides. A score closes this many times `2 * ROUNDING` of the margin.
const MAX_TRIED: usize = 128;
const _: () = assert!(MAX_TRIED as f32 * 2.0 * ROUNDING < 0.6 * MARGIN);
/// Elements and weights beyond are left to the scalar search, since sums may overflow.
const GREATEST: f32 = 1e9;
const GREATEST_WEIGHT: f32 = 1e15;
/// Likewise scores whose product with the sum of weights is smaller, since products lose precision.
const LEAST: f32 = 1e-34;
/// Steps of Lloyd's algorithm.
const STEPS: usize = 2;

/// The divisions of a sub-block side by side.
pub(in crate::formats) struct SideBySide<'a, L: Lanes> {
    l: L,
    lists: &'a Lists,
    /// With values that are shifted up, and down.
    terms: [Terms<L>; 2],
}

impl<'a, L: Lanes> SideBySide<'a, L> {
    #[inline(always)]
    pub(in crate::formats) fn new(l: L, grid: &'a Grid<8>) -> Self {
        // A word has room for a fourth level.
        let value = |down: bool| move |level: u8| values(down)[usize::from(level.min(2))];
        Self { l, lists: grid.lists(), terms: [Terms::new::<8>(l, value(false)), Terms::new::<8>(l, value(true))] }
    }
}

/// The nearest entries of a run side by side.
struct Nearest<'a, L: Lanes, const N: usize> {
    how: &'a SideBySide<'a, L>,
    x: &'a [f32; N],
    weights: &'a [f32; N],
}

impl<L: Lanes, const N: usize> NearestEntry<N> for Nearest<'_, L, N> {
    #[inline(always)]
    fn nearest(&self, levels: &[u8; 8], k: usize, scale: f32, down: bool) -> (u16, bool) {
        let SideBySide { l, lists, terms } = *self.how;
        let point = lists.points[Lists::number(levels)];
        let (mut x, mut weights) = ([0.0; LANES], [0.0; LANES]);
        x[..8].copy_from_slice(&self.x[8 * k..8 * k + 8]);
        weights[..8].copy_from_slice(&self.weights[8 * k..8 * k + 8]);
        let terms = &terms[usize::from(down)];
        let run = terms.run(l, &x, &weights);
        let (_, entry) = nearest::<L, 8>(l, lists, point, (terms, &run, scale));
        (entry, point.groups > 0)
    }
}

impl<L: Lanes> TernarySearch for SideBySide<'_, L> {
    #[inline(always)]
    fn one_shift(&self, grid: &Grid<8>, x: &[f32; 32], weights: &[f32; 32]) -> Option<SearchResult> {
        let max = greatest(x);
        if max < LEAST_OF_ONE {
            return None;
        }
        if !usual(x, weights) {
            return scalar_one(grid, x, weights);
        }
        let order = sorted(self.l, x);
        match one_cut(self.l, x, weights, &order, max) {
            Some(cut) => on_grid(grid, x, weights, &order, cut, &Nearest { how: self, x, weights }),
            None => scalar_one(grid, x, weights),
        }
    }

    #[inline(always)]
    fn two_shifts(&self, grid: &Grid<8>, x: &[f32; 16], weights: &[f32; 16]) -> Option<SearchResult> {
        let max = greatest(x);
        if max < LEAST_OF_TWO {
            return None;
        }
        if !usual(x, weights) {
            return scalar_two(grid, x, weights);
        }
        let order = sorted(self.l, x);
        match two_cuts(self.l, x, weights, &order, max) {
            Some(cut) => on_grid(grid, x, weights, &order, cut, &Nearest { how: self, x, weights }),
            None => scalar_two(grid, x, weights),
        }
    }
}

#[cold]
#[inline(never)]
fn scalar_one(grid: &Grid<8>, x: &[f32; 32], weights: &[f32; 32]) -> Option<SearchResult> {
    OneByOne.one_shift(grid, x, weights)
}

#[cold]
#[inline(never)]
fn scalar_two(grid: &Grid<8>, x: &[f32; 16], weights: &[f32; 16]) -> Option<SearchResult> {
    OneByOne.two_shifts(grid, x, weights)
}

/// Whether no sum can overflow, and all are numbers.
#[inline(always)]
fn usual<const N: usize>(x: &[f32; N], weights: &[f32; N]) -> bool {
    let mut usual = true;
    for (v, &weight) in x.iter().zip(weights) {
        usual &= (v.abs() < GREATEST) & (0.0..GREATEST_WEIGHT).contains(&weight);
    }
    usual
}

/// The indices of elements in ascending order of values; of equal ones the first comes first.
#[inline(always)]
fn sorted<L: Lanes, const N: usize>(l: L, x: &[f32; N]) -> [usize; N] {
    let chunks = x.as_chunks::<LANES>().0;
    let mut order = [0; N];
    for (i, &v) in x.iter().enumerate() {
        let value = l.splat(v);
        let mut before = 0;
        for (c, chunk) in chunks.iter().enumerate() {
            let chunk = l.array(chunk);
            // Of equal elements the earlier ones count.
            let (own, earlier) = (i / LANES, (1u16 << (i % LANES)) - 1);
            let lanes = if c < own {
                !l.mask_bits(l.lt(value, chunk))
            } else if c > own {
                l.mask_bits(l.lt(chunk, value))
            } else {
                !l.mask_bits(l.lt(value, chunk)) & earlier | l.mask_bits(l.lt(chunk, value)) & !earlier
            };
            before += lanes.count_ones();
        }
        order[before as usize % N] = i;
    }
    order
}

/// The number of elements below `bound`.
#[inline(always)]
fn below<L: Lanes, const N: usize>(l: L, x: &[f32; N], bound: f32) -> usize {
    let bound = l.splat(bound);
    let mut below = 0;
    for x in x.as_chunks::<LANES>().0 {
        below += l.mask_bits(l.lt(l.array(x), bound)).count_ones() as usize;
    }
    below
}

/// The score of a good division: `sums` returns the sums of a division's values, one for each choice of shifts.
#[inline(always)]
fn good_score<L: Lanes, const N: usize, const SHIFTS: usize>(
    l: L,
    x: &[f32; N],
    max: f32,
    sums: impl Fn(usize, usize) -> [(f32, f32); SHIFTS],
) -> f32 {
    let (mut score, mut scale) = (0.0, 0.6 * max);
    for _ in 0..STEPS {
        let (first, second) = (below(l, x, -0.5 * scale), below(l, x, 0.5 * scale));
        let mut best = 0.0;
        for (sum_qx, sum_q2) in sums(first, second) {
            let fit = sum_qx / sum_q2;
            if fit * sum_qx > best {
                best = fit * sum_qx;
                scale = fit.abs();
            }
        }
        if best > score {
            score = best;
        }
    }
    score
}

/// The score above which divisions are tried, if scores are precise.
#[inline(always)]
fn bound(score: f32, sum_w: f32) -> Option<f32> {
    let bound = score * (1.0 - MARGIN);
    (bound > f32::MIN_POSITIVE && bound * sum_w > LEAST).then_some(bound)
}

/// Sixteen numbers from index `at` on.
#[inline(always)]
fn window<L: Lanes>(l: L, x: &[f32], at: usize) -> L::Float {
    l.array(x[at..].first_chunk().expect("sums are followed by zeros"))
}

/// Divisions that come near the bound, in the order of the scalar search.
struct Tried<const SHIFTS: usize> {
    count: usize,
    sums: [(f32, f32); MAX_TRIED],
    at: [(u8, u8); MAX_TRIED],
    shifts: [u8; MAX_TRIED],
}

impl<const SHIFTS: usize> Tried<SHIFTS> {
    #[inline(always)]
    fn new() -> Self {
        Self { count: 0, sums: [(0.0, 0.0); MAX_TRIED], at: [(0, 0); MAX_TRIED], shifts: [0; MAX_TRIED] }
    }

    /// Adds those of `first` elements of level 0, and of `second` and more, lane by lane, of levels 0 and 1, whose score is above
    /// `bound`.
    #[inline(always)]
    fn add<L: Lanes>(
        &mut self,
        l: L,
        bound: L::Float,
        sums: &[(L::Float, L::Float); SHIFTS],
        (first, second): (usize, usize),
        lanes: usize,
    ) {
        let (mut near, mut any) = ([0; SHIFTS], 0);
        for (near, &(sum_qx, sum_q2)) in near.iter_mut().zip(sums) {
            *near = l.mask_bits(l.lt(l.mul(bound, sum_q2), l.mul(sum_qx, sum_qx)));
            any |= *near;
        }
        if lanes < LANES {
            any &= (1 << lanes) - 1;
        }
        if any == 0 {
            return;
        }
        let mut arrays = [([0.0; LANES], [0.0; LANES]); SHIFTS];
        for (arrays, &(sum_qx, sum_q2)) in arrays.iter_mut().zip(sums) {
            *arrays = (l.to_array(sum_qx), l.to_array(sum_q2));
        }
        while any != 0 {
            let lane = any.trailing_zeros() as usize % LANES;
            any &= any - 1;
            for shift in 0..SHIFTS {
                if near[shift] >> lane & 1 != 0 && self.count < MAX_TRIED {
                    self.sums[self.count] = (arrays[shift].0[lane], arrays[shift].1[lane]);
                    self.at[self.count] = (first as u8, (second + lane) as u8);
                    self.shifts[self.count] = shift as u8;
                    self.count += 1;
                }
            }
        }
    }

    /// The best of them, if they are not too many.
    #[inline(always)]
    fn best(&self, max: f32, downs: [[bool; 2]; SHIFTS]) -> Option<Cut> {
        if self.count == MAX_TRIED {
            return None;
        }
        let mut cut = Cut::new(max);
        for i in 0..self.count {
            let (first, second) = self.at[i];
            cut.try_sums(self.sums[i], (first.into(), second.into()), downs[usize::from(self.shifts[i])]);
        }
        Some(cut)
    }
}

/// IQ1_S: the best division; `None` if the scalar search has to find it.
#[inline(always)]
fn one_cut<L: Lanes>(l: L, x: &[f32; 32], weights: &[f32; 32], order: &[usize; 32], max: f32) -> Option<Cut> {
    const N: usize = 32;
    const PADDED: usize = N + LANES;
    let (mut sum_x, mut sum_w) = ([0.0; PADDED], [0.0; PADDED]);
    for (j, &i) in order.iter().enumerate() {
        sum_x[j + 1] = sum_x[j] + weights[i] * x[i];
        sum_w[j + 1] = sum_w[j] + weights[i];
    }
    let score = good_score(l, x, max, |i1, i2| {
        [UP, DOWN].map(|v| {
            let parts = |sums: &[f32; PADDED]| [sums[i1], sums[i2] - sums[i1], sums[N] - sums[i2]];
            let (x, w) = (parts(&sum_x), parts(&sum_w));
            let sum =
                |part: &[f32; 3], factor: [f32; 3]| part[0] * factor[0] + part[1] * factor[1] + part[2] * factor[2];
            (sum(&x, v), sum(&w, v.map(|v| v * v)))
        })
    });
    let bound = bound(score, sum_w[N])?;
    // What the elements of level 2 add to the sums, with either shift.
    let (mut last_x, mut last_w) = ([[0.0; PADDED]; 2], [[0.0; PADDED]; 2]);
    for (shift, v) in [UP[2], DOWN[2]].into_iter().enumerate() {
        let v = l.splat(v);
        for c in 0..PADDED / LANES {
            let after_x = l.sub(l.splat(sum_x[N]), l.array(&sum_x.as_chunks().0[c]));
            let after_w = l.sub(l.splat(sum_w[N]), l.array(&sum_w.as_chunks().0[c]));
            last_x[shift].as_chunks_mut().0[c] = l.to_array(l.mul(after_x, v));
            last_w[shift].as_chunks_mut().0[c] = l.to_array(l.mul(l.mul(after_w, v), v));
        }
    }
    let mut tried = Tried::<2>::new();
    let bound = l.splat(bound);
    let v1 = l.splat(UP[1]);
    for i1 in 0..=N {
        let (before_x, before_w) = (l.splat(sum_x[i1]), l.splat(sum_w[i1]));
        let mut first = [(before_x, before_w); 2];
        for (first, v) in first.iter_mut().zip([UP[0], DOWN[0]]) {
            *first = (l.splat(sum_x[i1] * v), l.splat(sum_w[i1] * v * v));
        }
        for i2 in (i1..=N).step_by(LANES) {
            // The values of level 1 differ in their sign alone.
            let middle_x = l.mul(l.sub(window(l, &sum_x, i2), before_x), v1);
            let middle_w = l.mul(l.mul(l.sub(window(l, &sum_w, i2), before_w), v1), v1);
            let sums = [
                (
                    l.add(l.add(first[0].0, middle_x), window(l, &last_x[0], i2)),
                    l.add(l.add(first[0].1, middle_w), window(l, &last_w[0], i2)),
                ),
                (
                    l.add(l.sub(first[1].0, middle_x), window(l, &last_x[1], i2)),
                    l.add(l.add(first[1].1, middle_w), window(l, &last_w[1], i2)),
                ),
            ];
            tried.add(l, bound, &sums, (i1, i2), N + 1 - i2);
        }
    }
    tried.best(max, [[false; 2], [true; 2]])
}

/// IQ1_M: the best division; `None` if the scalar search has to find it.
#[inline(always)]
fn two_cuts<L: Lanes>(l: L, x: &[f32; 16], weights: &[f32; 16], order: &[usize; 16], max: f32) -> Option<Cut> {
    const N: usize = 16;
    const PADDED: usize = N + LANES;
    // Sums of the elements of each half.
    let (mut sum_x, mut sum_w) = ([[0.0; PADDED]; 2], [[0.0; PADDED]; 2]);
    for (j, &i) in order.iter().enumerate() {
        let half = i / (N / 2);
        for h in 0..2 {
            (sum_x[h][j + 1], sum_w[h][j + 1]) = (sum_x[h][j], sum_w[h][j]);
        }
        sum_x[half][j + 1] += weights[i] * x[i];
        sum_w[half][j + 1] += weights[i];
    }
    // With either shift, the sums of a half are linear in the sums up to each cut.
    let squares = [UP, DOWN].map(|v| (v[0] * v[0] - v[1] * v[1], v[1] * v[1] - v[2] * v[2]));
    let mut totals = [[(0.0, 0.0); 2]; 2];
    for h in 0..2 {
        for (total, v) in totals[h].iter_mut().zip([UP, DOWN]) {
            *total = (sum_x[h][N] * v[2], sum_w[h][N] * v[2] * v[2]);
        }
    }
    let score = good_score(l, x, max, |i1, i2| {
        let mut sums = [(0.0, 0.0); 4];
        for (k, sums) in sums.iter_mut().enumerate() {
            for (h, shift) in [k / 2, k % 2].into_iter().enumerate() {
                let (total, square) = (totals[h][shift], squares[shift]);
                sums.0 += total.0 - (sum_x[h][i1] + sum_x[h][i2]);
                sums.1 += total.1 + sum_w[h][i1] * square.0 + sum_w[h][i2] * square.1;
            }
        }
        sums
    });
    let bound = bound(score, sum_w[0][N] + sum_w[1][N])?;
    let mut tried = Tried::<4>::new();
    let bound = l.splat(bound);
    let second = [l.splat(squares[0].1), l.splat(squares[1].1)];
    for i1 in 0..=N {
        for i2 in (i1..=N).step_by(LANES) {
            let mut halves = [[(bound, bound); 2]; 2];
            for h in 0..2 {
                let at = l.add(l.splat(sum_x[h][i1]), window(l, &sum_x[h], i2));
                let w = window(l, &sum_w[h], i2);
                for shift in 0..2 {
                    let (total_x, total_w) = totals[h][shift];
                    let first = l.splat(total_w + sum_w[h][i1] * squares[shift].0);
                    halves[h][shift] = (l.sub(l.splat(total_x), at), l.add(first, l.mul(w, second[shift])));
                }
            }
            let mut sums = [(bound, bound); 4];
            for (k, sums) in sums.iter_mut().enumerate() {
                let (low, high) = (halves[0][k / 2], halves[1][k % 2]);
                *sums = (l.add(low.0, high.0), l.add(low.1, high.1));
            }
            tried.add(l, bound, &sums, (i1, i2), N + 1 - i2);
        }
    }
    tried.best(max, [[false, false], [false, true], [true, false], [true, true]])
}
