//! The encoders of IQ1_S and IQ1_M: they try all ways to divide the sorted elements of a sub-block into -1, 0 and 1, with
//! values that are shifted up or down by an eighth.

use super::grid_search::Grid;

/// The shifted values of the levels 0, 1 and 2.
pub(super) const UP: [f32; 3] = [-0.875, 0.125, 1.125];
pub(super) const DOWN: [f32; 3] = [-1.125, -0.125, 0.875];

/// The values of levels, shifted `down` or up.
pub(super) fn values(down: bool) -> &'static [f32; 3] {
    if down { &DOWN } else { &UP }
}

/// The result of the search in a sub-block of `N` elements.
pub(super) struct SearchResult {
    pub(super) scale: f32,
    /// The entry of each eight elements.
    pub(super) entries: [u16; 4],
    /// Whether the values of each half are shifted down.
    pub(super) down: [bool; 2],
}

/// The best division so far: its scale, its score, and where the sorted elements are cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    scale: f32,
    score: f32,
    /// The number of elements of level 0, and of level 0 or 1; `None` if no division fits.
    at: Option<(usize, usize)>,
    down: [bool; 2],
}

impl Cut {
    pub(super) fn new(scale: f32) -> Self {
        Self { scale, score: -f32::MAX, at: None, down: [false; 2] }
    }

    /// Takes a division if it is better: `sum(weight * q * x)` and `sum(weight * q * q)` of its values `q`.
    #[inline(always)]
    pub(super) fn try_sums(&mut self, (sum_qx, sum_q2): (f32, f32), at: (usize, usize), down: [bool; 2]) {
        if sum_q2 > 0.0 && sum_qx * sum_qx > self.score * sum_q2 {
            self.scale = sum_qx / sum_q2;
            self.score = self.scale * sum_qx;
            self.at = Some(at);
            self.down = down;
        }
    }
}

/// The indices of elements in ascending order of values.
fn sorted<const N: usize>(x: &[f32; N]) -> [usize; N] {
    let mut order = std::array::from_fn(|i| i);
    order.sort_by(|&a, &b| x[a].partial_cmp(&x[b]).unwrap_or(std::cmp::Ordering::Equal));
    order
}

/// The search in a sub-block; `None` for elements too small.
pub(super) trait TernarySearch {
    /// IQ1_S: 32 elements of one shift.
    fn one_shift(&self, grid: &Grid<8>, x: &[f32; 32], weights: &[f32; 32]) -> Option<SearchResult>;

    /// IQ1_M: 16 elements, whose halves have a shift each.
    fn two_shifts(&self, grid: &Grid<8>, x: &[f32; 16], weights: &[f32; 16]) -> Option<SearchResult>;
}

/// Divisions one by one: the reference.
pub(super) struct OneByOne;

impl TernarySearch for OneByOne {
    fn one_shift(&self, grid: &Grid<8>, x: &[f32; 32], weights: &[f32; 32]) -> Option<SearchResult> {
        one_shift(grid, x, weights)
    }

    fn two_shifts(&self, grid: &Grid<8>, x: &[f32; 16], weights: &[f32; 16]) -> Option<SearchResult> {
        two_shifts(grid, x, weights)
    }
}

/// Elements of IQ1_S with smaller magnitudes become zeros.
pub(super) const LEAST_OF_ONE: f32 = 1e-12;
/// The same for IQ1_M.
pub(super) const LEAST_OF_TWO: f32 = 1e-7;

/// The greatest magnitude.
#[inline(always)]
pub(super) fn greatest(x: &[f32]) -> f32 {
    let mut greatest = x[0].abs();
    for v in &x[1..] {
        if greatest <= v.abs() {
            greatest = v.abs();
        }
    }
    greatest
}

/// IQ1_S: 32 elements of one shift. `None` for elements too small.
fn one_shift(grid: &Grid<8>, x: &[f32; 32], weights: &[f32; 32]) -> Option<SearchResult> {
    const N: usize = 32;
    let max = greatest(x);
    if max < LEAST_OF_ONE {
        return None;
    }
    let order = sorted(x);
    let (mut sum_x, mut sum_w) = ([0.0; N + 1], [0.0; N + 1]);
    for (j, &i) in order.iter().enumerate() {
        sum_x[j + 1] = sum_x[j] + weights[i] * x[i];
        sum_w[j + 1] = sum_w[j] + weights[i];
    }
    let mut cut = Cut::new(max);
    for i1 in 0..=N {
        for i2 in i1..=N {
            let parts = |sums: &[f32; N + 1]| [sums[i1] - sums[0], sums[i2] - sums[i1], sums[N] - sums[i2]];
            let (x, w) = (parts(&sum_x), parts(&sum_w));
            for down in [false, true] {
                let v = values(down);
                let sum_qx = x[0] * v[0] + x[1] * v[1] + x[2] * v[2];
                let sum_q2 = w[0] * v[0] * v[0] + w[1] * v[1] * v[1] + w[2] * v[2] * v[2];
                cut.try_sums((sum_qx, sum_q2), (i1, i2), [down; 2]);
            }
        }
    }
    on_grid(grid, x, weights, &order, cut, &OneByOneOf { grid, x, weights })
}

/// IQ1_M: 16 elements, whose halves have a shift each. `None` for elements too small.
fn two_shifts(grid: &Grid<8>, x: &[f32; 16], weights: &[f32; 16]) -> Option<SearchResult> {
    const N: usize = 16;
    let max = greatest(x);
    if max < LEAST_OF_TWO {
        return None;
    }
    let order = sorted(x);
    // Sums of the elements of each half.
    let (mut sum_x, mut sum_w) = ([[0.0; N + 1]; 2], [[0.0; N + 1]; 2]);
    for (j, &i) in order.iter().enumerate() {
        let half = i / (N / 2);
        for h in 0..2 {
            (sum_x[h][j + 1], sum_w[h][j + 1]) = (sum_x[h][j], sum_w[h][j]);
        }
        sum_x[half][j + 1] += weights[i] * x[i];
        sum_w[half][j + 1] += weights[i];
    }
    let mut cut = Cut::new(max);
    for i1 in 0..=N {
        for i2 in i1..=N {
            // The values of levels differ by one, so sums over all three follow from the sums up to each cut.
            let half = |h: usize| {
                let at = sum_x[h][i1] + sum_x[h][i2];
                [UP, DOWN].map(|v| {
                    let (first, second) = (v[0] * v[0] - v[1] * v[1], v[1] * v[1] - v[2] * v[2]);
                    let sum_qx = sum_x[h][N] * v[2] - at;
                    let sum_q2 = sum_w[h][N] * v[2] * v[2] + sum_w[h][i1] * first + sum_w[h][i2] * second;
                    (sum_qx, sum_q2)
                })
            };
            let (low, high) = (half(0), half(1));
            for (k, down) in [[false, false], [false, true], [true, false], [true, true]].into_iter().enumerate() {
                let (low, high) = (low[k / 2], high[k % 2]);
                cut.try_sums((low.0 + high.0, low.1 + high.1), (i1, i2), down);
            }
        }
    }
    on_grid(grid, x, weights, &order, cut, &OneByOneOf { grid, x, weights })
}

/// Where the values of run `k` of `N` elements are found in a [`Cut`].
const fn half<const N: usize>(k: usize) -> usize {
    k * 8 / (N / 2)
}

/// The entry of a run of eight levels in [`on_grid`].
pub(super) trait NearestEntry<const N: usize> {
    /// The entry of run `k`, and whether the levels are no entry, so that it is the best of the nearest entries for a scale and a shift.
    fn nearest(&self, levels: &[u8; 8], k: usize, scale: f32, down: bool) -> (u16, bool);
}

/// Compares the nearest entries one by one.
struct OneByOneOf<'a, const N: usize> {
    grid: &'a Grid<8>,
    x: &'a [f32; N],
    weights: &'a [f32; N],
}

impl<const N: usize> NearestEntry<N> for OneByOneOf<'_, N> {
    fn nearest(&self, levels: &[u8; 8], k: usize, scale: f32, down: bool) -> (u16, bool) {
        let run = 8 * k..8 * k + 8;
        match self.grid.find(levels) {
            Ok(entry) => (entry, false),
            Err(neighbours) => {
                let value = |level| values(down)[usize::from(level)];
                (self.grid.best(neighbours, &self.x[run.clone()], &self.weights[run], scale, value), true)
            }
        }
    }
}

/// The entries for a division.
#[inline(always)]
pub(super) fn on_grid<const N: usize>(
    grid: &Grid<8>,
    x: &[f32; N],
    weights: &[f32; N],
    order: &[usize; N],
    cut: Cut,
    how: &impl NearestEntry<N>,
) -> Option<SearchResult> {
    let (first, second) = cut.at?;
    let mut levels = [2u8; N];
    for (j, &i) in order[..second].iter().enumerate() {
        levels[i] = u8::from(j >= first);
    }
    let Cut { mut scale, mut down, .. } = cut;
    if scale < 0.0 {
        levels = levels.map(|level| 2 - level);
        scale = -scale;
        down = down.map(|down| !down);
    }
    let mut entries = [0; 4];
    let mut between = false;
    for (k, levels) in levels.as_chunks::<8>().0.iter().enumerate() {
        let (entry, is_between) = how.nearest(levels, k, scale, down[half::<N>(k)]);
        entries[k] = entry;
        between |= is_between;
    }
    if between {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for k in 0..N / 8 {
            for (i, &level) in grid.entry(entries[k]).iter().enumerate() {
                let (w, q) = (weights[8 * k + i], values(down[half::<N>(k)])[usize::from(level)]);
                sum_qx += w * q * x[8 * k + i];
                sum_q2 += w * q * q;
            }
        }
        if sum_qx > 0.0 && sum_q2 > 0.0 {
            scale = sum_qx / sum_q2;
        }
    }
    Some(SearchResult { scale, entries, down })
}
