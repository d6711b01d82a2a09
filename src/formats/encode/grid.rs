//! IQ2 and IQ3: all scales of a sub-block are tried side by side, and the entries nearest to a point are compared side by side.
//!
//! The error of an entry is a sum of terms that depend on an element and its level alone. For a run of elements and a scale, the
//! terms of all elements and levels fit two vectors; the sixteen entries of a vector then need a lookup and an addition for each
//! element. Sums and comparisons have the order of the scalar search, which is left with the sub-blocks of unusual magnitudes.

#![allow(unsafe_code, reason = "vector loads go through raw pointers")]

use super::positive;
use crate::formats::SUPER_BLOCK;
use crate::formats::grid_search::{
    Elements, Grid, GridSearch, Kind, ListedPoint, Lists, MAX_SUB_BLOCK, OnGrid, OneByOne, SubBlockSearch, magnitude,
    super_block,
};
use crate::simd::LANES;
use crate::simd::lanes::{Lanes, ROUND};

/// Vectors that hold all trials.
const VECTORS: usize = 2;
const TRIALS: usize = VECTORS * LANES;
/// Most runs of a sub-block.
const RUNS: usize = MAX_SUB_BLOCK / 4;
/// Elements and weights beyond are left to the scalar search, since errors may overflow.
const GREATEST: f32 = 1e9;
const GREATEST_WEIGHT: f32 = 1e15;
/// Likewise smaller scales, since inverse scales may overflow.
const LEAST: f32 = 1e-30;
/// The greatest ratio of a magnitude to the denominator of inverse scales for which levels are rounded correctly.
const STEEP: f32 = 1e4;

/// Encodes super-blocks.
#[inline(always)]
pub(in crate::formats) fn encode<L: Lanes, F: OnGrid<K>, const K: usize>(
    l: L,
    x: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let how = SideBySide { l, lists: F::grid().lists(), terms: Terms::new::<K>(l, magnitude) };
    let blocks = x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(F::TY.block_bytes()));
    for (i, (x, block)) in blocks.enumerate() {
        let importance = importance.map(|importance| &importance[i * SUPER_BLOCK..][..SUPER_BLOCK]);
        F::put_block(&super_block::<F, _, K>(&how, x, importance), x, block);
    }
}

/// Encodes with the scalar search.
#[cold]
#[inline(never)]
fn one_by_one<const K: usize>(
    search: &GridSearch,
    grid: &Grid<K>,
    elements: &Elements<'_>,
    max: f32,
    entries: &mut [u16],
) -> Option<f32> {
    OneByOne.search(search, grid, elements, max, entries)
}

/// What is known of the terms of elements: the index of each lane's element in a run, and what each lane's level stands for.
#[derive(Clone, Copy)]
pub(super) struct Terms<L: Lanes> {
    elements: [L::Int; 2],
    values: L::Float,
}

impl<L: Lanes> Terms<L> {
    /// For runs of `K` elements whose levels stand for `value`.
    #[inline(always)]
    pub(super) fn new<const K: usize>(l: L, value: impl Fn(u8) -> f32) -> Self {
        let levels = 2 * LANES / K;
        let (mut elements, mut values) = ([[0.0; LANES]; 2], [0.0; LANES]);
        for lane in 0..LANES {
            values[lane] = value((lane % levels) as u8);
            for half in 0..2 {
                elements[half][lane] = f32::from_bits((half * K / 2 + lane / levels) as u32);
            }
        }
        Self { elements: [l.bits(l.array(&elements[0])), l.bits(l.array(&elements[1]))], values: l.array(&values) }
    }

    /// A run, from sixteen elements and weights of which the first are its own.
    #[inline(always)]
    pub(super) fn run(&self, l: L, x: &[f32; LANES], weights: &[f32; LANES]) -> Run<L> {
        let (x, weights) = (l.array(x), l.array(weights));
        Run {
            x: [l.lanes_at(x, self.elements[0]), l.lanes_at(x, self.elements[1])],
            weights: [l.lanes_at(weights, self.elements[0]), l.lanes_at(weights, self.elements[1])],
        }
    }

    /// `weight * (scale * value - x)^2`.
    #[inline(always)]
    fn errors(&self, l: L, run: &Run<L>, scale: f32) -> [L::Float; 2] {
        let scaled = l.mul(l.splat(scale), self.values);
        let mut terms = run.x;
        for half in 0..2 {
            let difference = l.sub(scaled, run.x[half]);
            terms[half] = l.mul(l.mul(run.weights[half], difference), difference);
        }
        terms
    }
}

/// Elements and weights of a run in the order of terms.
pub(super) struct Run<L: Lanes> {
    x: [L::Float; 2],
    weights: [L::Float; 2],
}

/// The sum of the terms of each word's elements.
#[inline(always)]
fn sums_of_terms<L: Lanes, const K: usize>(l: L, terms: &[L::Float; 2], words: &[u32; LANES]) -> L::Float {
    // SAFETY: the array holds 16 integers.
    let mut words = unsafe { l.load_int(words.as_ptr().cast()) };
    let mut sums = l.lanes_at(terms[0], words);
    for i in 1..K {
        words = l.shr_halves::<4, 4>(words);
        sums = l.add(sums, l.lanes_at(terms[2 * i / K], words));
    }
    sums
}

/// The word and the number of a point's entry, or of the first of its nearest entries with the smallest error.
#[inline(always)]
pub(super) fn nearest<L: Lanes, const K: usize>(
    l: L,
    lists: &Lists,
    point: ListedPoint,
    (terms, run, scale): (&Terms<L>, &Run<L>, f32),
) -> (u32, u16) {
    if point.groups == 0 {
        return (point.first, point.entry);
    }
    let terms = terms.errors(l, run, scale);
    let (first, groups) = (point.first as usize, usize::from(point.groups));
    let mut least = sums_of_terms::<L, K>(l, &terms, &lists.words[first]);
    if groups == 1 {
        let lane = l.first_least(least);
        return (lists.words[first][lane], lists.numbers[first][lane]);
    }
    let mut at = l.splat(0.0);
    for (group, words) in lists.words[first..][..groups].iter().enumerate().skip(1) {
        let sums = sums_of_terms::<L, K>(l, &terms, words);
        let less = l.lt(sums, least);
        least = l.select(less, sums, least);
        at = l.select(less, l.splat(group as f32), at);
    }
    let lane = l.first_least(least);
    let group = first + l.to_array(at)[lane] as usize;
    (lists.words[group][lane], lists.numbers[group][lane])
}

/// All scales at a time.
struct SideBySide<'a, L: Lanes> {
    l: L,
    lists: &'a Lists,
    terms: Terms<L>,
}

/// What all trials found: for each run the words and numbers of entries, and a bit for each run whose point was no entry.
struct Found {
    words: [[u32; TRIALS]; RUNS],
    numbers: [[u16; TRIALS]; RUNS],
    between: [u8; TRIALS],
}

/// Elements and roots of their weights, followed by zeros: any run begins sixteen numbers.
struct Padded {
    x: [f32; MAX_SUB_BLOCK + LANES],
    roots: [f32; MAX_SUB_BLOCK + LANES],
}

impl Padded {
    #[inline(always)]
    fn new(elements: &Elements<'_>) -> Self {
        let mut padded = Self { x: [0.0; MAX_SUB_BLOCK + LANES], roots: [0.0; MAX_SUB_BLOCK + LANES] };
        padded.x[..elements.x.len()].copy_from_slice(elements.x);
        padded.roots[..elements.x.len()].copy_from_slice(elements.roots);
        padded
    }

    /// Sixteen elements and roots from index `at` on.
    #[inline(always)]
    fn from(&self, at: usize) -> (&[f32; LANES], &[f32; LANES]) {
        const { assert!(MAX_SUB_BLOCK.is_multiple_of(LANES)) };
        match (self.x[at..].first_chunk(), self.roots[at..].first_chunk()) {
            (Some(x), Some(roots)) => (x, roots),
            _ => unreachable!("a run begins inside the sub-block"),
        }
    }
}

/// Whether a search in lanes has the results of the scalar one.
#[inline(always)]
fn usual(elements: &Elements<'_>, reach: f32) -> bool {
    let mut usual = reach > LEAST;
    for (&v, &weight) in elements.x.iter().zip(elements.weights) {
        usual &= (v.abs() < GREATEST) & (v.abs() < reach * STEEP) & (0.0..GREATEST_WEIGHT).contains(&weight);
    }
    usual
}

impl<L: Lanes, const K: usize> SubBlockSearch<K> for SideBySide<'_, L> {
    #[inline(always)]
    fn search(
        &self,
        search: &GridSearch,
        grid: &Grid<K>,
        elements: &Elements<'_>,
        max: f32,
        entries: &mut [u16],
    ) -> Option<f32> {
        let mut fit = None;
        if let Some(top) = search.top_without_codebook() {
            fit = Some(positive::scale(self.l, elements.x, elements.weights, top));
        }
        let (mut scale, reach) = search.first_scale(max, fit)?;
        if !usual(elements, reach) {
            return one_by_one(search, grid, elements, max, entries);
        }
        let l = self.l;
        let padded = Padded::new(elements);
        let runs = elements.x.len() / K;
        let (found, sums) = self.trials::<K>(search, elements, &padded, reach);
        let mut best = 0.0;
        let mut between = if search.kind == Kind::AllIfBetween { 1 } else { 0 };
        let mut chosen = None;
        for trial in 0..count(search) {
            let (sum_qx, sum_q2) = (sums.0[trial], sums.1[trial]);
            if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
                scale = sum_qx / sum_q2;
                best = scale * sum_qx;
                chosen = Some(trial);
                between = found.between[trial];
            }
        }
        match chosen {
            None => entries.fill(grid.find(&[0; K]).unwrap_or_default()),
            Some(trial) => {
                for (entry, numbers) in entries.iter_mut().zip(&found.numbers) {
                    *entry = numbers[trial];
                }
            }
        }
        if (search.kind == Kind::All || between != 0) && scale > 0.0 {
            let levels = levels(l, search, elements, 1.0 / scale);
            for k in 0..runs {
                if search.kind == Kind::Between && between >> k & 1 == 0 {
                    continue;
                }
                let mut own = [0; K];
                own.copy_from_slice(&levels[k * K..][..K]);
                let point = self.lists.points[Lists::number(&own)];
                let (x, roots) = padded.from(k * K);
                let run = self.terms.run(l, x, roots);
                entries[k] = nearest::<L, K>(l, self.lists, point, (&self.terms, &run, scale)).1;
            }
            let (sum_qx, sum_q2) = elements.sums(grid, entries);
            if sum_q2 > 0.0 {
                scale = sum_qx / sum_q2;
            }
        }
        Some(scale)
    }
}

/// The number of trials.
#[inline(always)]
fn count(search: &GridSearch) -> usize {
    2 * search.trials as usize + 1
}

/// The levels of elements for an inverse scale.
#[inline(always)]
fn levels<L: Lanes>(l: L, search: &GridSearch, elements: &Elements<'_>, inverse: f32) -> [u8; MAX_SUB_BLOCK] {
    let mut levels = [0; MAX_SUB_BLOCK];
    for (x, levels) in elements.x.as_chunks::<LANES>().0.iter().zip(levels.as_chunks_mut::<LANES>().0) {
        let level = l.mul(l.splat(0.5), l.sub(l.mul(l.splat(inverse), l.array(x)), l.splat(1.0)));
        l.put_bytes(l.min(l.max(l.nearest(level), l.splat(0.0)), l.splat(f32::from(search.top))), levels);
    }
    levels
}

impl<L: Lanes> SideBySide<'_, L> {
    /// The entries of all trials, with `sum(weight * x * q)` and `sum(weight * q * q)` of their magnitudes `q`.
    #[inline(always)]
    fn trials<const K: usize>(
        &self,
        search: &GridSearch,
        elements: &Elements<'_>,
        padded: &Padded,
        reach: f32,
    ) -> (Found, ([f32; TRIALS], [f32; TRIALS])) {
        let l = self.l;
        let (count, runs) = (count(search), elements.x.len() / K);
        let vectors = count.div_ceil(LANES);
        let mut numerators = [search.span(); TRIALS];
        for (numerator, trial) in numerators[..count].iter_mut().zip(-search.trials..) {
            *numerator = search.span() + trial as f32 * search.step;
        }
        let (mut inverses, mut scales) = ([l.splat(0.0); VECTORS], [0.0; TRIALS]);
        for v in 0..vectors {
            inverses[v] = l.div(l.array(&numerators.as_chunks().0[v]), l.splat(reach));
            scales.as_chunks_mut().0[v] = l.to_array(l.div(l.splat(1.0), inverses[v]));
        }
        let mut found = Found { words: [[0; TRIALS]; RUNS], numbers: [[0; TRIALS]; RUNS], between: [0; TRIALS] };
        for k in 0..runs {
            let mut points = [0.0; TRIALS];
            for v in 0..vectors {
                let x = &elements.x[k * K..][..K];
                points.as_chunks_mut().0[v] = l.to_array(numbers::<L, K>(l, x, inverses[v], search.top));
            }
            let (x, roots) = padded.from(k * K);
            let run = self.terms.run(l, x, roots);
            for trial in 0..count {
                // The lowest bits of these floats are the numbers of points.
                let point = self.lists.points[points[trial].to_bits() as usize & 0xffff];
                let (word, number) = nearest::<L, K>(l, self.lists, point, (&self.terms, &run, scales[trial]));
                found.words[k][trial] = word;
                found.numbers[k][trial] = number;
                found.between[trial] |= u8::from(point.groups > 0) << k;
            }
        }
        let mut sums = ([0.0; TRIALS], [0.0; TRIALS]);
        for v in 0..vectors {
            let (sum_qx, sum_q2) = sums_of_trials::<L, K>(l, elements, &self.terms, &found, v);
            sums.0.as_chunks_mut().0[v] = l.to_array(sum_qx);
            sums.1.as_chunks_mut().0[v] = l.to_array(sum_q2);
        }
        (found, sums)
    }
}

/// [`ROUND`] plus the numbers of the points of a run, for the inverse scales of all lanes.
#[inline(always)]
fn numbers<L: Lanes, const K: usize>(l: L, x: &[f32], inverse: L::Float, top: u8) -> L::Float {
    let (round, top) = (l.splat(ROUND), l.splat(ROUND + f32::from(top)));
    let mut number = round;
    let mut factor = 1.0;
    for &v in x {
        let level = l.mul(l.splat(0.5), l.sub(l.mul(inverse, l.splat(v)), l.splat(1.0)));
        let level = l.sub(l.min(l.max(l.add(level, round), round), top), round);
        number = l.add(number, l.mul(level, l.splat(factor)));
        factor *= const { Lists::base::<K>() as f32 };
    }
    number
}

/// The sums of the trials of vector `v`.
#[inline(always)]
fn sums_of_trials<L: Lanes, const K: usize>(
    l: L,
    elements: &Elements<'_>,
    terms: &Terms<L>,
    found: &Found,
    v: usize,
) -> (L::Float, L::Float) {
    let (mut sum_qx, mut sum_q2) = (l.splat(0.0), l.splat(0.0));
    let runs = elements.x.chunks_exact(K).zip(elements.weights.chunks_exact(K));
    for ((x, weights), words) in runs.zip(&found.words) {
        // SAFETY: the array holds 16 integers.
        let mut words = unsafe { l.load_int(words.as_chunks::<LANES>().0[v].as_ptr().cast()) };
        for (&v, &weight) in x.iter().zip(weights) {
            let q = l.lanes_at(terms.values, words);
            words = l.shr_halves::<4, 4>(words);
            sum_qx = l.add(sum_qx, l.mul(l.splat(weight * v), q));
            sum_q2 = l.add(sum_q2, l.mul(l.mul(l.splat(weight), q), q));
        }
    }
    (sum_qx, sum_q2)
}
