//! The encoders of IQ2 and IQ3: they search the scale of each sub-block for which the nearest entries of the codebook have the
//! smallest weighted error.
//!
//! A codebook is a set of points with `K` levels each. With a given scale, every run of `K` elements is rounded to a point. If
//! that point is no entry, the best of its nearest entries is taken; these are listed when a codebook is first used.

use std::sync::OnceLock;

use super::scale_search::positive_scale;
use super::super_block::{spread, sum_of_squares};
use super::{SUPER_BLOCK, Written, nearest};
use crate::simd::LANES;

/// The longest sub-block.
pub(super) const MAX_SUB_BLOCK: usize = 32;
/// Elements that share a byte of signs.
const SIGNS: usize = 8;

/// A codebook for encoding: its entries as levels, and for every point its entry or the entries nearest to it.
pub(super) struct Grid<const K: usize> {
    /// Levels of each entry, from 0 on; the magnitude of level `l` counts as `2 l + 1`.
    entries: Vec<[u8; K]>,
    /// Indexed by the levels of a point, [`Self::BITS`] bits each.
    points: Vec<Point>,
    neighbours: Vec<u16>,
    /// The same for searches in lanes, made when first used.
    lists: OnceLock<Lists>,
}

#[derive(Clone, Copy)]
enum Point {
    Entry(u16),
    /// The first of a range of neighbours, and their number.
    Between(u32, u16),
}

impl<const K: usize> Grid<K> {
    /// Bits of a level in the number of a point.
    const BITS: usize = if K == 4 { 3 } else { 2 };

    /// Lists, for all points with levels below `levels`, the entries at the `shells` smallest distances.
    pub(super) fn new(entries: Vec<[u8; K]>, levels: u8, shells: usize) -> Self {
        let mut grid = Self {
            points: vec![Point::Between(0, 0); 1 << (K * Self::BITS)],
            neighbours: Vec::new(),
            lists: OnceLock::new(),
            entries,
        };
        for (entry, number) in grid.entries.iter().zip(0..) {
            grid.points[Self::number(entry)] = Point::Entry(number);
        }
        let mut distances = vec![0u16; grid.entries.len()];
        for number in 0..grid.points.len() {
            let point: [u8; K] = std::array::from_fn(|i| (number >> (i * Self::BITS)) as u8 & ((1 << Self::BITS) - 1));
            if matches!(grid.points[number], Point::Entry(_)) || point.iter().any(|&level| level >= levels) {
                continue;
            }
            let mut there = [false; 256];
            for (distance, entry) in distances.iter_mut().zip(&grid.entries) {
                *distance = (0..K).map(|i| u16::from(entry[i].abs_diff(point[i])).pow(2)).sum();
                there[usize::from(*distance)] = true;
            }
            let first = grid.neighbours.len();
            for shell in (0u16..).zip(there).filter(|(_, there)| *there).map(|(distance, _)| distance).take(shells) {
                let at = (0u16..).zip(&distances).filter(|&(_, &distance)| distance == shell);
                grid.neighbours.extend(at.map(|(entry, _)| entry));
            }
            grid.points[number] = Point::Between(first as u32, (grid.neighbours.len() - first) as u16);
        }
        grid
    }

    /// The levels of an entry.
    pub(super) fn entry(&self, number: u16) -> &[u8; K] {
        &self.entries[usize::from(number)]
    }

    fn number(levels: &[u8; K]) -> usize {
        levels.iter().rev().fold(0, |number, &level| number << Self::BITS | usize::from(level))
    }

    /// The entry of a point, or the entries nearest to it.
    pub(super) fn find(&self, levels: &[u8; K]) -> Result<u16, &[u16]> {
        match self.points[Self::number(levels)] {
            Point::Entry(number) => Ok(number),
            Point::Between(first, count) => Err(&self.neighbours[first as usize..][..usize::from(count)]),
        }
    }

    /// Points and nearest entries for searches in lanes.
    pub(super) fn lists(&self) -> &Lists {
        self.lists.get_or_init(|| Lists::new(self))
    }

    /// The entry for the scaled magnitudes of `K` elements, and whether it is exactly their point.
    fn nearest(&self, x: &[f32], roots: &[f32], (inverse, scale): (f32, f32), top: i32) -> (u16, bool) {
        let levels = std::array::from_fn(|i| nearest(0.5 * (inverse * x[i] - 1.0)).clamp(0, top) as u8);
        match self.find(&levels) {
            Ok(entry) => (entry, true),
            Err(neighbours) => (self.best(neighbours, x, roots, scale, magnitude), false),
        }
    }

    /// The entry with the smallest error; the first of several.
    pub(super) fn best(
        &self,
        neighbours: &[u16],
        x: &[f32],
        weights: &[f32],
        scale: f32,
        value: impl Fn(u8) -> f32,
    ) -> u16 {
        // NaN compares with nothing, so the first entry is the default.
        let mut best = (neighbours[0], f32::MAX);
        for &neighbour in neighbours {
            let mut error = 0.0;
            for (i, &level) in self.entries[usize::from(neighbour)].iter().enumerate() {
                let difference = scale * value(level) - x[i];
                error += weights[i] * difference * difference;
            }
            if error < best.1 {
                best = (neighbour, error);
            }
        }
        best.0
    }
}

/// The nearest entries of all points as vectors of words. A word is an entry: four bits for each element, which are its index in a
/// vector of terms, see [`Lists::index`].
pub(super) struct Lists {
    /// By the number of a point, see [`Lists::number`].
    pub(super) points: Vec<ListedPoint>,
    /// Groups of the nearest entries of a point. The entries of a lane precede those of the next, so that of several equally near the
    /// first is in the first lane; the last lanes may repeat the first entry.
    pub(super) words: Vec<[u32; LANES]>,
    /// The numbers of these entries.
    pub(super) numbers: Vec<[u16; LANES]>,
}

/// A point of [`Lists`].
#[derive(Clone, Copy)]
pub(super) struct ListedPoint {
    /// The first of the point's groups; the word of an entry.
    pub(super) first: u32,
    /// How many groups there are: none for an entry.
    pub(super) groups: u16,
    /// The number of the entry.
    pub(super) entry: u16,
}

impl Lists {
    /// Levels of codebooks with `K` elements: the base of the numbers of points.
    pub(super) const fn base<const K: usize>() -> usize {
        if K == 4 { 8 } else { 3 }
    }

    /// The number of a point: its levels are the digits, the first one the lowest.
    pub(super) fn number<const K: usize>(levels: &[u8; K]) -> usize {
        levels.iter().rev().fold(0, |number, &level| number * Self::base::<K>() + usize::from(level))
    }

    /// Terms of the first half of the elements are one vector, those of the second half another: the index in it of the term of
    /// element `i` for `level`.
    pub(super) const fn index<const K: usize>(i: usize, level: usize) -> usize {
        i % (K / 2) * (2 * LANES / K) + level
    }

    fn word<const K: usize>(levels: &[u8; K]) -> u32 {
        levels
            .iter()
            .enumerate()
            .fold(0, |word, (i, &level)| word | (Self::index::<K>(i, usize::from(level)) as u32) << (4 * i))
    }

    fn new<const K: usize>(grid: &Grid<K>) -> Self {
        let base = Self::base::<K>();
        let mut lists = Self { points: Vec::new(), words: Vec::new(), numbers: Vec::new() };
        for number in 0..base.pow(K as u32) {
            let levels = std::array::from_fn(|i| (number / base.pow(i as u32) % base) as u8);
            let point = match grid.find(&levels) {
                Ok(entry) => ListedPoint { first: Self::word(&levels), groups: 0, entry },
                Err(neighbours) => {
                    let groups = neighbours.len().div_ceil(LANES);
                    let first = lists.words.len();
                    for group in 0..groups {
                        let numbers: [u16; LANES] = std::array::from_fn(|lane| {
                            neighbours.get(lane * groups + group).copied().unwrap_or(neighbours[0])
                        });
                        lists.words.push(numbers.map(|number| Self::word(grid.entry(number))));
                        lists.numbers.push(numbers);
                    }
                    ListedPoint { first: first as u32, groups: groups as u16, entry: 0 }
                }
            };
            lists.points.push(point);
        }
        lists
    }
}

/// A format whose runs of `K` elements are entries of a codebook.
pub(super) trait OnGrid<const K: usize>: Written {
    const SEARCH: GridSearch;

    fn grid() -> &'static Grid<K>;

    /// The weight of an element without importance, from the mean square times [`GridSearch::spread`] and the element.
    fn weight(mean_square: f32, x: f32) -> f32;

    /// Writes a super-block.
    fn put_block(found: &SearchResult, x: &[f32], block: &mut [u8]);
}

/// Encodes a super-block.
pub(super) fn encode_block<F: OnGrid<K>, const K: usize>(x: &[f32], importance: Option<&[f32]>, block: &mut [u8]) {
    F::put_block(&super_block::<F, _, K>(&OneByOne, x, importance), x, block);
}

/// The search in a sub-block.
pub(super) trait SubBlockSearch<const K: usize> {
    /// The scale that fits best, and the entries for it; `None` where no positive one fits.
    fn search(
        &self,
        search: &GridSearch,
        grid: &Grid<K>,
        elements: &Elements<'_>,
        max: f32,
        entries: &mut [u16],
    ) -> Option<f32>;
}

/// Scales, runs and entries one by one: the reference.
pub(super) struct OneByOne;

impl<const K: usize> SubBlockSearch<K> for OneByOne {
    fn search(
        &self,
        search: &GridSearch,
        grid: &Grid<K>,
        elements: &Elements<'_>,
        max: f32,
        entries: &mut [u16],
    ) -> Option<f32> {
        search.search(grid, elements, max, entries)
    }
}

/// The magnitude of a level.
pub(super) fn magnitude(level: u8) -> f32 {
    f32::from(2 * level + 1)
}

/// The search parameters of a format.
pub(super) struct GridSearch {
    /// Elements of a sub-block.
    pub(super) sub_block: usize,
    /// The highest level.
    pub(super) top: u8,
    /// Scales tried on each side of the first, and the steps between them.
    pub(super) trials: i32,
    pub(super) step: f32,
    /// Sub-blocks of smaller magnitudes become zeros.
    pub(super) least: f32,
    /// The factor of the mean square in weights.
    pub(super) spread: f32,
    /// Whether the eighth sign is not stored: it makes the number of minus signs even.
    pub(super) even_signs: bool,
    pub(super) kind: Kind,
}

/// What differs between formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With the best scale, only runs whose point was no entry are looked up again.
    Between,
    /// All runs are looked up again if any point was no entry.
    AllIfBetween,
    /// All runs are always looked up again; scales are tried around the one that fits best without a codebook.
    All,
}

/// What the search found for a super-block.
pub(super) struct SearchResult {
    /// The entry of each run.
    pub(super) entries: [u16; SUPER_BLOCK / 4],
    /// Minus signs, a bit each.
    pub(super) signs: [u8; SUPER_BLOCK / SIGNS],
    pub(super) scales: [f32; 16],
    /// The greatest scale.
    pub(super) greatest: f32,
}

/// Searches in all sub-blocks of a super-block.
#[inline(always)]
pub(super) fn super_block<F: OnGrid<K>, S: SubBlockSearch<K>, const K: usize>(
    how: &S,
    x: &[f32],
    importance: Option<&[f32]>,
) -> SearchResult {
    let mut found = SearchResult {
        entries: [0; SUPER_BLOCK / 4],
        signs: [0; SUPER_BLOCK / SIGNS],
        scales: [0.0; 16],
        greatest: 0.0,
    };
    let mean_square = F::SEARCH.spread * sum_of_squares(x) / SUPER_BLOCK as f32;
    let n = F::SEARCH.sub_block;
    for (j, x) in x.chunks_exact(n).enumerate() {
        let mut weights = [0.0; MAX_SUB_BLOCK];
        let weights = &mut weights[..n];
        match importance {
            Some(importance) => {
                for ((weight, &importance), &v) in weights.iter_mut().zip(&importance[j * n..][..n]).zip(x) {
                    *weight = spread(importance, mean_square, v);
                }
            }
            None => {
                for (weight, &v) in weights.iter_mut().zip(x) {
                    *weight = F::weight(mean_square, v);
                }
            }
        }
        let entries = &mut found.entries[j * n / K..][..n / K];
        let signs = &mut found.signs[j * n / SIGNS..][..n / SIGNS];
        let scale = F::SEARCH.sub_block(how, F::grid(), x, weights, entries, signs);
        found.scales[j] = scale;
        if found.greatest <= scale {
            found.greatest = scale;
        }
    }
    found
}

impl GridSearch {
    /// The scale of a sub-block; writes entries and signs, unless it is zero.
    #[inline(always)]
    fn sub_block<S: SubBlockSearch<K>, const K: usize>(
        &self,
        how: &S,
        grid: &Grid<K>,
        x: &[f32],
        weights: &[f32],
        entries: &mut [u16],
        signs: &mut [u8],
    ) -> f32 {
        let n = self.sub_block;
        let (mut magnitudes, mut roots) = ([0.0; MAX_SUB_BLOCK], [0.0; MAX_SUB_BLOCK]);
        let mut own_signs = [0; MAX_SUB_BLOCK / SIGNS];
        for (k, sign) in own_signs[..n / SIGNS].iter_mut().enumerate() {
            let run = k * SIGNS..(k + 1) * SIGNS;
            *sign = self.signs(&x[run.clone()], &weights[run.clone()], &mut magnitudes[run]);
        }
        let (magnitudes, roots) = (&magnitudes[..n], &mut roots[..n]);
        let mut max = magnitudes[0];
        for &v in &magnitudes[1..] {
            if max <= v {
                max = v;
            }
        }
        if max < self.least || max == 0.0 {
            return 0.0;
        }
        for (root, weight) in roots.iter_mut().zip(weights) {
            *root = weight.sqrt();
        }
        let elements = Elements { x: magnitudes, weights, roots };
        let Some(mut scale) = how.search(self, grid, &elements, max, entries) else {
            entries.fill(0);
            return 0.0;
        };
        if scale < 0.0 {
            scale = -scale;
            own_signs = own_signs.map(|signs| !signs);
        }
        for (sign, own) in signs.iter_mut().zip(own_signs) {
            *sign = if self.even_signs { own & 127 } else { own };
        }
        scale
    }

    /// The signs of eight elements, and their magnitudes. Where the number of minus signs must be even, the element with the smallest
    /// weighted square may get the wrong sign; its magnitude is negative then.
    #[inline(always)]
    fn signs(&self, x: &[f32], weights: &[f32], magnitudes: &mut [f32]) -> u8 {
        let mut signs = 0u8;
        for (i, (magnitude, &v)) in magnitudes.iter_mut().zip(x).enumerate() {
            let minus = v < 0.0;
            *magnitude = if minus { -v } else { v };
            signs |= u8::from(minus) << i;
        }
        if self.even_signs && signs.count_ones() % 2 == 1 {
            let (mut at, mut min) = (0, weights[0] * x[0] * x[0]);
            for i in 1..SIGNS {
                let square = weights[i] * x[i] * x[i];
                if square < min {
                    (at, min) = (i, square);
                }
            }
            magnitudes[at] = -magnitudes[at];
            signs ^= 1 << at;
        }
        signs
    }

    /// The numerator of the first inverse scale.
    pub(super) fn span(&self) -> f32 {
        f32::from(2 * self.top + 1)
    }

    /// The highest code of the search for a scale without a codebook, if that comes first.
    pub(super) fn top_without_codebook(&self) -> Option<i32> {
        (self.kind == Kind::All).then_some(i32::from(self.top) + 2)
    }

    /// The first scale, and the denominator of inverse scales; `None` where none is positive. `fit` is the scale that was found without
    /// a codebook.
    pub(super) fn first_scale(&self, max: f32, fit: Option<f32>) -> Option<(f32, f32)> {
        let (scale, reach) = match fit {
            Some(scale) => (scale, scale * f32::from(self.top + 1)),
            None => (max / self.span(), max),
        };
        if reach <= 0.0 { None } else { Some((scale, reach)) }
    }

    /// See [`SubBlockSearch::search`].
    fn search<const K: usize>(
        &self,
        grid: &Grid<K>,
        elements: &Elements<'_>,
        max: f32,
        entries: &mut [u16],
    ) -> Option<f32> {
        let top = i32::from(self.top);
        let span = self.span();
        let fit = self.top_without_codebook().map(|top| {
            let mut codes = [0; MAX_SUB_BLOCK];
            positive_scale(elements.x, elements.weights, top, &mut codes[..elements.x.len()])
        });
        let (mut scale, reach) = self.first_scale(max, fit)?;
        let runs = elements.x.len() / K;
        let mut best = 0.0;
        let mut between = [self.kind == Kind::AllIfBetween; MAX_SUB_BLOCK / 4];
        entries.fill(grid.find(&[0; K]).unwrap_or_default());
        for trial in -self.trials..=self.trials {
            let inverse = (span + trial as f32 * self.step) / reach;
            let scales = (inverse, 1.0 / inverse);
            let (mut trial_entries, mut trial_between) = ([0; MAX_SUB_BLOCK / 4], [false; MAX_SUB_BLOCK / 4]);
            for k in 0..runs {
                let (entry, found) = elements.nearest(grid, k, scales, top);
                trial_entries[k] = entry;
                trial_between[k] = !found;
            }
            let (sum_qx, sum_q2) = elements.sums(grid, &trial_entries);
            if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
                scale = sum_qx / sum_q2;
                best = scale * sum_qx;
                entries.copy_from_slice(&trial_entries[..runs]);
                between = trial_between;
            }
        }
        let any = self.kind == Kind::All || between[..runs].contains(&true);
        if any && scale > 0.0 {
            let scales = (1.0 / scale, scale);
            for (k, entry) in entries.iter_mut().enumerate() {
                if self.kind != Kind::Between || between[k] {
                    *entry = elements.nearest(grid, k, scales, top).0;
                }
            }
            let (sum_qx, sum_q2) = elements.sums(grid, entries);
            if sum_q2 > 0.0 {
                scale = sum_qx / sum_q2;
            }
        }
        Some(scale)
    }
}

/// The elements of a sub-block: magnitudes, weights, and the roots of these.
pub(super) struct Elements<'a> {
    pub(super) x: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) roots: &'a [f32],
}

impl Elements<'_> {
    /// The entry of run `k` for an inverse scale and the scale itself.
    fn nearest<const K: usize>(&self, grid: &Grid<K>, k: usize, scales: (f32, f32), top: i32) -> (u16, bool) {
        grid.nearest(&self.x[k * K..][..K], &self.roots[k * K..][..K], scales, top)
    }

    /// `sum(weight * x * q)` and `sum(weight * q * q)` for the magnitudes `q` of entries.
    #[inline(always)]
    pub(super) fn sums<const K: usize>(&self, grid: &Grid<K>, entries: &[u16]) -> (f32, f32) {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for ((x, weights), &entry) in self.x.chunks_exact(K).zip(self.weights.chunks_exact(K)).zip(entries) {
            for ((&v, &w), &level) in x.iter().zip(weights).zip(grid.entry(entry)) {
                let q = magnitude(level);
                sum_qx += w * v * q;
                sum_q2 += w * q * q;
            }
        }
        (sum_qx, sum_q2)
    }
}

/// A four-bit code for each scale, which stands for `2 code + 1` steps, and the step.
pub(super) fn four_bits(scales: &[f32; 16], greatest: f32) -> ([u8; 16], f32) {
    let step = greatest / 31.0;
    let inverse = 1.0 / step;
    (scales.map(|scale| nearest(0.5 * (inverse * scale - 1.0)).clamp(0, 15) as u8), step)
}

/// Writes scales as nibbles, two to a byte, until `out` is full.
pub(super) fn put_nibbles(scales: &[u8; 16], out: &mut [u8]) {
    for (byte, pair) in out.iter_mut().zip(scales.chunks_exact(2)) {
        *byte = pair[0] | pair[1] << 4;
    }
}
