//! Softmax attention of the newest positions of sequences over their caches.
//!
//! A row (one query of one head) walks its keys in tiles of 64 positions. Eight tiles form a chunk with a softmax of its own,
//! and chunks are merged in order. Tiles and chunks start at fixed absolute positions, so that a row's bits depend on its
//! query and the keys that it sees alone, not on the batch or on threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::KvCache;
use super::kv::TileBuffer;
use crate::kernels::attention::{AttendTile, Bias, PackQueries, Softmax, TILE};
use crate::kernels::grid::Grid;
use crate::kernels::{LANES, List, Pool, Scratch};

/// Positions of a chunk.
const CHUNK: usize = 8 * TILE;
/// Rows (queries times heads of a group) that share a pass over the keys.
const MAX_ROWS: usize = 64;

/// What attention computes.
#[derive(Clone, Debug)]
pub struct AttentionSpec<'a> {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads: a divisor of `heads`.
    pub kv_heads: usize,
    /// Length of a query or key head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores are squashed: `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// For each head, what its scores lose a position between query and key (ALiBi).
    pub slopes: Option<&'a [f32]>,
    /// Whether a query sees only the positions up to its own; else it sees all that are cached.
    pub causal: bool,
    /// Only this many latest positions are seen, the query's own included; where attention is not causal, half as many
    /// before it and half as many after it.
    pub window: Option<usize>,
    /// Positions are in chunks of so many, and a query sees those of its own chunk alone.
    pub chunk: Option<usize>,
    /// A score for each head that takes its share of the softmax and has no value.
    pub sinks: Option<&'a [f32]>,
}

/// The queries of one sequence.
pub struct AttentionPart<'a> {
    /// `[n, heads * k_dim]`; the last query is at the cache's last position.
    pub queries: &'a [f32],
    /// The sequence's keys and values, including those of these positions.
    pub cache: &'a KvCache,
    /// Position of the first query.
    pub first_position: usize,
    /// The positions that each query sees, where not all of those that the specification lets it see.
    pub selected: Option<Selected<'a>>,
    /// `[n, heads * v_dim]`.
    pub out: &'a mut [f32],
}

/// Positions that have been selected for each of some rows.
#[derive(Clone, Copy)]
pub struct Selected<'a> {
    /// `[rows, words]`: bit `i` of word `w` for position `64 * w + i`.
    pub bits: &'a [u64],
    /// Words of a row.
    pub words: usize,
}

impl Selected<'_> {
    /// For each of the 64 positions of tile `tile` whether `row` sees it.
    fn tile(&self, row: usize, tile: usize) -> u64 {
        if tile < self.words { self.bits[row * self.words + tile] } else { 0 }
    }
}

/// What the queries of a part share.
struct Shared<'a> {
    spec: &'a AttentionSpec<'a>,
    cache: &'a KvCache,
    first_position: usize,
    selected: Option<Selected<'a>>,
    queries: &'a [f32],
    /// Number of queries.
    n: usize,
    /// The output, cut into the rows and columns of tasks.
    out: Grid<'a>,
}

/// Some queries of a part with all heads of one group.
struct Rows<'a> {
    spec: &'a AttentionSpec<'a>,
    cache: &'a KvCache,
    kv_head: usize,
    /// Position of each query.
    positions: Range<usize>,
    /// What these queries see, and the row of the first of them.
    selected: Option<(Selected<'a>, usize)>,
    /// From these queries' first head on: `[.., heads, k_dim]`.
    queries: &'a [f32],
    /// The output of each query, `[group, v_dim]`: the row of rectangles in this grid; the column is the head.
    out: (&'a Grid<'a>, usize),
}

/// Attention of all parts, each query over the positions of its sequence that it sees.
///
/// # Panics
/// If shapes do not agree.
pub fn attention(pool: &Pool, spec: &AttentionSpec<'_>, parts: &mut [AttentionPart<'_>]) {
    let group = spec.heads / spec.kv_heads;
    let (k_len, v_len) = (spec.heads * spec.k_dim, spec.heads * spec.v_dim);
    let per_task = (MAX_ROWS / group).max(1);
    let shared: List<Shared<'_>> = parts
        .iter_mut()
        .map(|AttentionPart { queries, cache, first_position, selected, out }| {
            let n = queries.len() / k_len;
            assert_eq!(out.len(), n * v_len, "an output of {n} positions");
            let out = Grid::new(out, v_len, (per_task, group * spec.v_dim));
            Shared { spec, cache, first_position: *first_position, selected: *selected, queries, n, out }
        })
        .collect();
    let tasks: usize = shared.iter().map(|part| part.n.div_ceil(per_task) * spec.kv_heads).sum();
    let mut all = List::with_capacity(tasks);
    for kv_head in 0..spec.kv_heads {
        // Later queries see more keys. The short tasks come last, so that threads finish at about the same time.
        for part in shared.iter().rev() {
            all.extend((0..part.n.div_ceil(per_task)).rev().map(|block| part.rows(kv_head, block, per_task)));
        }
    }
    if all.len() >= 2 * pool.threads() || all.iter().all(|rows| rows.chunks().len() <= 1) {
        pool.run(all.len(), &|i| all[i].attend_in_order(pool));
    } else {
        attend_by_chunks(pool, &all);
    }
}

/// For few rows and many keys: each chunk is a task, and the results are merged in order afterwards.
fn attend_by_chunks(pool: &Pool, all: &[Rows<'_>]) {
    let tasks: List<(usize, usize)> =
        all.iter().enumerate().flat_map(|(i, rows)| rows.chunks().map(move |chunk| (i, chunk))).collect();
    let mut memory = Scratch::new(tasks.iter().map(|&(i, _)| all[i].state_len()).sum());
    let mut rest = &mut *memory;
    let states: List<Mutex<&mut [f32]>> = tasks
        .iter()
        .map(|&(i, _)| {
            let (state, others) = std::mem::take(&mut rest).split_at_mut(all[i].state_len());
            rest = others;
            Mutex::new(state)
        })
        .collect();
    pool.run(tasks.len(), &|t| {
        let (i, chunk) = tasks[t];
        // Each task locks its own state, once: nobody ever waits.
        let mut memory = states[t].lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = all[i].state(&mut memory);
        state.reset();
        all[i].attend_chunk(pool, chunk, &mut state, &mut Buffers::new(pool, &all[i]));
    });
    let mut states = states.into_iter().map(|state| state.into_inner().unwrap_or_else(PoisonError::into_inner));
    for rows in all {
        let mut memory = Scratch::new(rows.state_len());
        let mut total = rows.state(&mut memory);
        total.reset();
        for state in states.by_ref().take(rows.chunks().len()) {
            total.merge(pool.isa(), &rows.state(state));
        }
        rows.finish(pool, total);
    }
}

/// Buffers of a task.
struct Buffers {
    /// Scaled, sixteen rows side by side.
    queries: Scratch,
    tile: TileBuffer,
    visible: List<(usize, usize)>,
    biases: List<Bias>,
    masks: List<u64>,
}

impl Buffers {
    fn new(pool: &Pool, rows: &Rows<'_>) -> Self {
        Self {
            queries: rows.packed_queries(pool),
            tile: TileBuffer::default(),
            visible: List::new(),
            biases: List::new(),
            masks: List::new(),
        }
    }
}

impl Shared<'_> {
    /// The queries of task `block` (each task has `per_task`) with the heads of key-value head `kv_head`.
    fn rows(&self, kv_head: usize, block: usize, per_task: usize) -> Rows<'_> {
        let Self { spec, cache, .. } = *self;
        let (first, end) = (block * per_task, ((block + 1) * per_task).min(self.n));
        let head = kv_head * (spec.heads / spec.kv_heads);
        Rows {
            spec,
            cache,
            kv_head,
            positions: self.first_position + first..self.first_position + end,
            selected: self.selected.map(|selected| (selected, first)),
            queries: &self.queries[(first * spec.heads + head) * spec.k_dim..],
            out: (&self.out, block),
        }
    }
}

impl Rows<'_> {
    /// The scaled queries in the layout of tiles. Scores are in units of ln 2, because the exponential is a power of two.
    fn packed_queries(&self, pool: &Pool) -> Scratch {
        let (k_dim, scale) = (self.spec.k_dim, self.spec.scale * std::f32::consts::LOG2_E);
        let queries = self.queries.chunks(self.spec.heads * k_dim).take(self.positions.len());
        let rows: List<&[f32]> = queries.flat_map(|query| query[..self.group() * k_dim].chunks_exact(k_dim)).collect();
        let mut packed = Scratch::zeros(rows.len().next_multiple_of(LANES) * k_dim);
        pool.isa().run(PackQueries { rows: &rows, k_dim, scale, out: &mut packed });
        packed
    }

    fn group(&self) -> usize {
        self.spec.heads / self.spec.kv_heads
    }

    /// Elements of a state of these rows.
    fn state_len(&self) -> usize {
        Softmax::len(self.positions.len() * self.group(), self.spec.v_dim)
    }

    fn state<'m>(&self, memory: &'m mut [f32]) -> Softmax<'m> {
        Softmax::within(memory, self.positions.len() * self.group(), self.spec.v_dim)
    }

    /// The positions that the query at `position` sees.
    fn seen(&self, position: usize) -> Range<usize> {
        let before = |window: usize| (position + 1).saturating_sub(window);
        match (self.spec.causal, self.spec.window) {
            (true, window) => {
                let chunk = self.spec.chunk.map_or(0, |chunk| position / chunk * chunk);
                window.map_or(0, before).max(chunk)..position + 1
            }
            (false, None) => 0..self.cache.len(),
            (false, Some(window)) => before(window / 2 + 1)..(position + window / 2 + 1).min(self.cache.len()),
        }
    }

    /// The positions that any of these queries sees.
    fn all_seen(&self) -> Range<usize> {
        self.seen(self.positions.start).start..self.seen(self.positions.end - 1).end
    }

    /// The chunks that any of these queries sees.
    fn chunks(&self) -> Range<usize> {
        let seen = self.all_seen();
        seen.start / CHUNK..seen.end.div_ceil(CHUNK)
    }

    fn attend_in_order(&self, pool: &Pool) {
        let mut memory = Scratch::new(2 * self.state_len());
        let (total, state) = memory.split_at_mut(self.state_len());
        let (mut total, mut state) = (self.state(total), self.state(state));
        let mut buffers = Buffers::new(pool, self);
        let mut chunks = self.chunks();
        total.reset();
        if let Some(first) = chunks.next() {
            self.attend_chunk(pool, first, &mut total, &mut buffers);
        }
        for chunk in chunks {
            state.reset();
            self.attend_chunk(pool, chunk, &mut state, &mut buffers);
            total.merge(pool.isa(), &state);
        }
        self.finish(pool, total);
    }

    fn attend_chunk(&self, pool: &Pool, chunk: usize, state: &mut Softmax<'_>, buffers: &mut Buffers) {
        let seen = self.all_seen();
        let first = (chunk * CHUNK).max(seen.start / TILE * TILE);
        let end = ((chunk + 1) * CHUNK).min(seen.end);
        for tile in first / TILE..end.div_ceil(TILE) {
            let start = tile * TILE;
            buffers.visible.clear();
            buffers.biases.clear();
            buffers.masks.clear();
            if let Some((selected, first)) = self.selected {
                let masks = (first..).take(self.positions.len()).map(|row| selected.tile(row, tile));
                buffers.masks.extend(masks.flat_map(|mask| std::iter::repeat_n(mask, self.group())));
                if buffers.masks.iter().all(|mask| *mask == 0) {
                    continue;
                }
            }
            for position in self.positions.clone() {
                let seen = self.seen(position);
                let from = seen.start.saturating_sub(start).min(TILE);
                let to = seen.end.saturating_sub(start).min(TILE);
                buffers.visible.extend(std::iter::repeat_n((from, to.max(from)), self.group()));
                if let Some(slopes) = self.spec.slopes {
                    let slopes = &slopes[self.kv_head * self.group()..(self.kv_head + 1) * self.group()];
                    buffers.biases.extend(slopes.iter().map(|slope| Bias::new(*slope, start, position)));
                }
            }
            let next = self.cache.numbers(tile + 1, self.kv_head);
            let (keys, values) = self.cache.tile(pool.isa(), tile, self.kv_head, &mut buffers.tile);
            pool.isa().run(AttendTile {
                queries: &buffers.queries,
                k_dim: self.spec.k_dim,
                keys,
                values,
                next,
                visible: &buffers.visible,
                biases: &buffers.biases,
                masks: &buffers.masks,
                softcap: self.spec.softcap.map(|cap| cap * std::f32::consts::LOG2_E),
                state,
            });
        }
    }

    /// Adds the sinks, divides by the sums and writes the result.
    fn finish(&self, pool: &Pool, mut total: Softmax<'_>) {
        let group = self.group();
        if let Some(sinks) = self.spec.sinks {
            let mut memory = Scratch::new(self.state_len());
            let mut state = self.state(&mut memory);
            state.reset();
            for row in 0..self.positions.len() * group {
                state.see_sink(row, sinks[self.kv_head * group + row % group] * std::f32::consts::LOG2_E);
            }
            total.merge(pool.isa(), &state);
        }
        let (out, block) = self.out;
        total.finish(pool.isa(), self.spec.v_dim, out.take(block, self.kv_head));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{CacheType, KvSpec, KvType};
    use crate::formats::{decode, encode};
    use crate::kernels::Isa;

    /// Numbers in [-1, 1), from a linear congruential generator.
    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 8) as f32 / f32::from(1u16 << 15) / 256.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    const SPEC: AttentionSpec<'static> = AttentionSpec {
        heads: 4,
        kv_heads: 2,
        k_dim: 24,
        v_dim: 20,
        scale: 0.3,
        softcap: None,
        slopes: None,
        causal: true,
        window: None,
        chunk: None,
        sinks: None,
    };

    struct Case {
        keys: Vec<f32>,
        values: Vec<f32>,
        queries: Vec<f32>,
        n: usize,
    }

    impl Case {
        fn new(n: usize) -> Self {
            let spec = SPEC;
            Self {
                keys: numbers(n * spec.kv_heads * spec.k_dim, 1),
                values: numbers(n * spec.kv_heads * spec.v_dim, 2),
                queries: numbers(n * spec.heads * spec.k_dim, 3),
                n,
            }
        }

        /// The outputs when positions come in these steps.
        fn run(&self, pool: &Pool, spec: &AttentionSpec<'_>, ty: KvType, step: usize) -> Vec<f32> {
            let window = spec.window.or(spec.chunk).filter(|_| spec.causal);
            let (heads, k_dim, v_dim) = (spec.kv_heads, spec.k_dim, spec.v_dim);
            let mut cache = KvCache::new(KvSpec { heads, k_dim, v_dim, ty, window });
            let mut out = vec![0.0; self.n * spec.heads * v_dim];
            for first in (0..self.n).step_by(step) {
                let rows = first..(first + step).min(self.n);
                let part = |x: &'_ [f32], len: usize| x[rows.start * len..rows.end * len].to_vec();
                cache.append(pool, &part(&self.keys, heads * k_dim), &part(&self.values, heads * v_dim));
                let queries = part(&self.queries, spec.heads * k_dim);
                let len = spec.heads * v_dim;
                let out = &mut out[rows.start * len..rows.end * len];
                let part =
                    AttentionPart { queries: &queries, cache: &cache, first_position: first, selected: None, out };
                attention(pool, spec, &mut [part]);
                cache.drop_unseen(cache.len());
            }
            out
        }

        fn naive(&self, spec: &AttentionSpec<'_>) -> Vec<f64> {
            let group = spec.heads / spec.kv_heads;
            let mut out = Vec::new();
            for i in 0..self.n {
                for head in 0..spec.heads {
                    let q = &self.queries[(i * spec.heads + head) * spec.k_dim..][..spec.k_dim];
                    let seen = |j: &usize| match (spec.causal, spec.window) {
                        (true, window) => {
                            let chunk = spec.chunk.is_none_or(|len| i / len == j / len);
                            *j <= i && window.is_none_or(|w| i - j < w) && chunk
                        }
                        (false, window) => window.is_none_or(|w| i.abs_diff(*j) <= w / 2),
                    };
                    let seen: Vec<usize> = (0..self.n).filter(seen).collect();
                    let at = |j: usize, dim: usize| (j * spec.kv_heads + head / group) * dim;
                    let score = |j: usize| {
                        let k = &self.keys[at(j, spec.k_dim)..][..spec.k_dim];
                        let s: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                        let s = s * f64::from(spec.scale);
                        let s = spec.softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh());
                        (s - spec.slopes.map_or(0.0, |slopes| f64::from(slopes[head]) * i.abs_diff(j) as f64)).exp()
                    };
                    let sink = spec.sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                    let sum: f64 = seen.iter().map(|&j| score(j)).sum::<f64>() + sink;
                    for d in 0..spec.v_dim {
                        let v = |j: usize| f64::from(self.values[at(j, spec.v_dim) + d]);
                        out.push(seen.iter().map(|&j| score(j) * v(j)).sum::<f64>() / sum);
                    }
                }
            }
            out
        }
    }

    #[test]
    fn results_are_those_of_the_definition() {
        let case = Case::new(150);
        let pool = Pool::new(2);
        let sinks = [0.5, -1.0, 2.0, 0.0];
        for spec in [
            SPEC,
            AttentionSpec { window: Some(20), ..SPEC },
            AttentionSpec { softcap: Some(0.7), ..SPEC },
            AttentionSpec { sinks: Some(&sinks), window: Some(70), ..SPEC },
            AttentionSpec { slopes: Some(&[0.3, 0.02, 1.0, 0.1]), ..SPEC },
            AttentionSpec { chunk: Some(40), ..SPEC },
            AttentionSpec { causal: false, ..SPEC },
            AttentionSpec { causal: false, window: Some(21), ..SPEC },
            AttentionSpec { causal: false, sinks: Some(&sinks), window: Some(130), ..SPEC },
        ] {
            let exact = case.naive(&spec);
            for (ty, bound) in [(KvType::F32, 3e-6), (KvType::F16, 2e-3), (KvType::Q8_0, 2e-2)] {
                let out = case.run(&pool, &spec, ty, 150);
                let error = out.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(error < bound, "{ty:?} {spec:?}: {error}");
            }
        }
    }

    /// Rows of heads as a cache of this type gives them back.
    fn decoded(ty: CacheType, rows: &[f32], dim: usize) -> Vec<f32> {
        let ty = ty.tensor_type();
        let rows = rows.chunks_exact(dim).flat_map(|row| {
            let mut row = row.to_vec();
            row.resize(dim.next_multiple_of(32), 0.0);
            let mut bytes = vec![0; ty.row_bytes(row.len())];
            encode(ty, &row, None, &mut bytes);
            decode(ty, &bytes, &mut row);
            row.truncate(dim);
            row
        });
        rows.collect()
    }

    #[test]
    fn coded_pages_are_read_as_what_they_decode_to() {
        let (case, spec) = (Case::new(150), AttentionSpec { window: Some(90), ..SPEC });
        for keys in CacheType::ALL {
            for values in CacheType::ALL {
                let exact = Case {
                    keys: decoded(keys, &case.keys, spec.k_dim),
                    values: decoded(values, &case.values, spec.v_dim),
                    queries: case.queries.clone(),
                    ..case
                };
                let expected = exact.run(&Pool::with_isa(1, Isa::Scalar), &spec, KvType::F32, 150);
                let ty = KvType { keys, values };
                for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
                    assert!(case.run(&Pool::with_isa(2, isa), &spec, ty, 150) == expected, "{ty} on {isa}");
                }
                assert!(case.run(&Pool::new(1), &spec, ty, 1) == expected, "{ty}, one by one");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_split_threads_or_cpu() {
        let case = Case::new(1200);
        let spec = AttentionSpec { softcap: Some(5.0), ..SPEC };
        let expected = case.run(&Pool::with_isa(1, Isa::Scalar), &spec, KvType::F16, 1200);
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            for (threads, step) in [(1, 1200), (2, 7), (3, 400)] {
                let out = case.run(&Pool::with_isa(threads, isa), &spec, KvType::F16, step);
                assert!(out == expected, "{isa}, {threads} threads, steps of {step}");
            }
        }
        let spec = AttentionSpec { slopes: Some(&[0.3, 0.02, 1.0, 0.1]), ..SPEC };
        let expected = case.run(&Pool::with_isa(1, Isa::Scalar), &spec, KvType::F16, 1200);
        assert!(case.run(&Pool::new(2), &spec, KvType::F16, 7) == expected, "biases, steps of 7");
        let expected = case.run(&Pool::new(1), &AttentionSpec { window: Some(100), ..SPEC }, KvType::Q8_0, 1200);
        let out = case.run(&Pool::new(2), &AttentionSpec { window: Some(100), ..SPEC }, KvType::Q8_0, 1);
        assert!(out == expected, "a window, one by one");
        let chunks = AttentionSpec { chunk: Some(300), ..SPEC };
        let expected = case.run(&Pool::new(1), &chunks, KvType::F16, 1200);
        let out = case.run(&Pool::new(2), &chunks, KvType::F16, 7);
        assert!(out == expected, "chunks, in steps");
    }
}
