//! Mixers' gated linear recurrences: the delta rule (gated delta nets, Kimi's with a decay for each element of a key) and plain
//! decay (Mamba 2).
//!
//! Positions are computed in order and heads independently, so that results depend neither on how a sequence is split into
//! calls nor on threads.

use std::sync::{Mutex, PoisonError};

use super::rows::for_rows;
use crate::kernels::recurrence::{Columns, Recurrence};
use crate::kernels::{LANES, List, Pool, Scratch, vector};
use crate::network::{DeltaNetMixer, KeySharing, KimiDeltaMixer, Mamba2Mixer};

/// The shape of a recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrenceSpec {
    /// Value heads: each has a state of its own.
    pub heads: usize,
    /// Heads of keys and queries: a divisor of `heads`.
    pub key_heads: usize,
    /// Length of a key or query head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// How heads share keys and queries.
    pub sharing: KeySharing,
    /// Whether the state's present value for the key is subtracted from the value first (the delta rule).
    pub delta: bool,
    /// Whether each element of a key has a decay of its own.
    pub by_element: bool,
}

impl From<&DeltaNetMixer> for RecurrenceSpec {
    fn from(mixer: &DeltaNetMixer) -> Self {
        let DeltaNetMixer { heads, key_heads, k_dim, v_dim, sharing, .. } = *mixer;
        Self { heads, key_heads, k_dim, v_dim, sharing, delta: true, by_element: false }
    }
}

impl From<&Mamba2Mixer> for RecurrenceSpec {
    fn from(mixer: &Mamba2Mixer) -> Self {
        let Mamba2Mixer { heads, groups, k_dim, v_dim, .. } = *mixer;
        Self { heads, key_heads: groups, k_dim, v_dim, sharing: KeySharing::Adjacent, delta: false, by_element: false }
    }
}

impl From<&KimiDeltaMixer> for RecurrenceSpec {
    fn from(mixer: &KimiDeltaMixer) -> Self {
        let KimiDeltaMixer { heads, dim, .. } = *mixer;
        let sharing = KeySharing::Adjacent;
        Self { heads, key_heads: heads, k_dim: dim, v_dim: dim, sharing, delta: true, by_element: true }
    }
}

impl RecurrenceSpec {
    /// Elements of a position's queries, keys and values, which are the channels of the convolution before the recurrence.
    #[must_use]
    pub fn mixed_len(&self) -> usize {
        2 * self.key_heads * self.k_dim + self.heads * self.v_dim
    }

    /// Elements of the state, `[heads, ceil(v_dim / 16), k_dim, 16]`; it starts as zeros.
    #[must_use]
    pub fn state_len(&self) -> usize {
        self.heads * self.vectors() * self.k_dim * LANES
    }

    fn vectors(&self) -> usize {
        self.v_dim.div_ceil(LANES)
    }

    fn key_head(&self, head: usize) -> usize {
        match self.sharing {
            KeySharing::Adjacent => head / (self.heads / self.key_heads),
            KeySharing::Tiled => head % self.key_heads,
        }
    }
}

/// The input of a recurrence at `n` positions. Queries, keys and values are columns of one buffer: the output of the
/// convolution.
#[derive(Clone, Copy, Debug)]
pub struct RecurrenceInput<'a> {
    /// `[n, stride]`.
    pub mixed: &'a [f32],
    /// Elements of a row.
    pub stride: usize,
    /// Where a row's queries begin: `[key_heads, k_dim]`.
    pub query_at: usize,
    /// Where a row's keys begin: `[key_heads, k_dim]`.
    pub key_at: usize,
    /// Where a row's values begin: `[heads, v_dim]`.
    pub value_at: usize,
    /// Factor of the state, `[n, heads]`, or `[n, heads, k_dim]` where each element of a key has its own.
    pub decay: &'a [f32],
    /// Factor of what is added to it, `[n, heads]`.
    pub gain: &'a [f32],
}

/// Advances the state by `n` positions: for each head, with its state `S`, `[k_dim, v_dim]`,
///
/// `S = decay S`, `S = S + key (gain (value - delta S^T key))^T`, `out = S^T query`,
///
/// where `delta` is one or zero. `out` is `[n, heads * v_dim]`.
///
/// # Panics
/// If shapes do not agree.
pub fn recurrence(pool: &Pool, spec: &RecurrenceSpec, state: &mut [f32], input: &RecurrenceInput<'_>, out: &mut [f32]) {
    let (heads, vectors) = (spec.heads, spec.vectors());
    let n = out.len() / (heads * spec.v_dim);
    assert_eq!(state.len(), spec.state_len(), "a state of another shape");
    assert_eq!(input.mixed.len(), n * input.stride, "inputs of {n} positions");
    let decays = if spec.by_element { spec.k_dim } else { 1 };
    assert!(input.decay.len() == n * heads * decays && input.gain.len() == n * heads, "factors of {n} positions");
    if n == 0 {
        return;
    }
    // [heads, vectors, n, 16]
    let mut memory = Scratch::zeros(heads * vectors * n * LANES);
    let results = memory.as_chunks_mut::<LANES>().0;
    let tasks: List<_> = state
        .as_chunks_mut::<LANES>()
        .0
        .chunks_mut(vectors * spec.k_dim)
        .zip(results.chunks_mut(vectors * n))
        .map(Mutex::new)
        .collect();
    pool.run(heads, &|head| {
        // Each task locks its own head once, so no thread ever waits.
        let mut task = tasks[head].lock().unwrap_or_else(PoisonError::into_inner);
        let (state, results) = &mut *task;
        for (vector, (state, out)) in state.chunks_mut(spec.k_dim).zip(results.chunks_mut(n)).enumerate() {
            pool.isa().run(one_vector(spec, input, head, vector, state, out));
        }
    });
    drop(tasks);
    for_rows(pool, out, heads * spec.v_dim, |i, row| {
        for (head, row) in row.chunks_exact_mut(spec.v_dim).enumerate() {
            for (vector, row) in row.chunks_mut(LANES).enumerate() {
                row.copy_from_slice(&results[(head * vectors + vector) * n + i][..row.len()]);
            }
        }
    });
}

fn one_vector<'a>(
    spec: &RecurrenceSpec,
    input: &RecurrenceInput<'a>,
    head: usize,
    vector: usize,
    state: &'a mut [[f32; LANES]],
    out: &'a mut [[f32; LANES]],
) -> Recurrence<'a> {
    let columns = |first: usize, len: usize| Columns { rows: &input.mixed[first..], stride: input.stride, len };
    let factor = |rows: &'a [f32], len: usize| Columns { rows: &rows[head * len..], stride: spec.heads * len, len };
    let key_head = spec.key_head(head) * spec.k_dim;
    let first = vector * LANES;
    Recurrence {
        state,
        query: columns(input.query_at + key_head, spec.k_dim),
        key: columns(input.key_at + key_head, spec.k_dim),
        value: columns(input.value_at + head * spec.v_dim + first, LANES.min(spec.v_dim - first)),
        decay: factor(input.decay, if spec.by_element { spec.k_dim } else { 1 }),
        gain: factor(input.gain, 1),
        delta: spec.delta,
        out,
    }
}

/// Added to the square of a query's or key's length before the root.
const EPSILON: f32 = 1e-6;

/// Brings queries and keys, `[2, key_heads, k_dim]`, to length one, and queries to `1 / sqrt(k_dim)`.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn unit_heads(row: &mut [f32], k_dim: usize, key_heads: usize) {
    let len = k_dim as f32;
    for (head, x) in row.chunks_exact_mut(k_dim).enumerate() {
        // `x / sqrt(sum(x^2) + epsilon)`, as the root mean square.
        vector::rms_norm(x, None, EPSILON / len);
        let factor = if head < key_heads { 1.0 / len } else { 1.0 / len.sqrt() };
        x.iter_mut().for_each(|v| *v *= factor);
    }
}

/// `ln(1 + e^x)`.
pub(super) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    const N: usize = 37;
    const SPEC: RecurrenceSpec = RecurrenceSpec {
        heads: 4,
        key_heads: 2,
        k_dim: 6,
        v_dim: 20,
        sharing: KeySharing::Adjacent,
        delta: true,
        by_element: false,
    };
    /// Queries, keys, values, and one column that belongs to nobody.
    const STRIDE: usize = 12 + 12 + 80 + 1;

    struct Case {
        mixed: Vec<f32>,
        decay: Vec<f32>,
        gain: Vec<f32>,
    }

    impl Case {
        fn new() -> Self {
            let wave = |n: usize, step: f32| (0..n).map(move |i| (i as f32 * step).sin());
            Self {
                mixed: wave(N * STRIDE, 1.7).map(|x| x * 0.4).collect(),
                decay: wave(N * SPEC.heads * SPEC.k_dim, 0.9).map(|x| 0.8 + 0.2 * x).collect(),
                gain: wave(N * SPEC.heads, 2.3).map(|x| 0.5 + 0.5 * x).collect(),
            }
        }

        fn input(&self, spec: &RecurrenceSpec, first: usize, n: usize) -> RecurrenceInput<'_> {
            let decays = spec.heads * if spec.by_element { spec.k_dim } else { 1 };
            RecurrenceInput {
                mixed: &self.mixed[first * STRIDE..(first + n) * STRIDE],
                stride: STRIDE,
                query_at: 0,
                key_at: 12,
                value_at: 24,
                decay: &self.decay[first * decays..(first + n) * decays],
                gain: &self.gain[first * SPEC.heads..(first + n) * SPEC.heads],
            }
        }

        fn run(&self, pool: &Pool, spec: &RecurrenceSpec, step: usize) -> Vec<f32> {
            let mut state = vec![0.0; spec.state_len()];
            let mut out = vec![0.0; N * spec.heads * spec.v_dim];
            for (i, out) in out.chunks_mut(step * spec.heads * spec.v_dim).enumerate() {
                let n = out.len() / (spec.heads * spec.v_dim);
                recurrence(pool, spec, &mut state, &self.input(spec, i * step, n), out);
            }
            out
        }

        /// The definition, one head after the other, in `f64`.
        fn naive(&self, spec: &RecurrenceSpec) -> Vec<f64> {
            let mut out = vec![0.0; N * spec.heads * spec.v_dim];
            for head in 0..spec.heads {
                let mut state = vec![vec![0.0f64; spec.v_dim]; spec.k_dim];
                let key_head = if spec.sharing == KeySharing::Tiled { head % 2 } else { head / 2 };
                for i in 0..N {
                    let at = |first: usize, len: usize| {
                        self.mixed[i * STRIDE + first..][..len].iter().map(|x| f64::from(*x)).collect::<Vec<_>>()
                    };
                    let (query, key) = (at(key_head * 6, 6), at(12 + key_head * 6, 6));
                    let value = at(24 + head * spec.v_dim, spec.v_dim);
                    let decay = |k: usize| {
                        let at = i * spec.heads + head;
                        f64::from(self.decay[if spec.by_element { at * spec.k_dim + k } else { at }])
                    };
                    let gain = f64::from(self.gain[i * spec.heads + head]);
                    for v in 0..spec.v_dim {
                        state.iter_mut().enumerate().for_each(|(k, row)| row[v] *= decay(k));
                        let held: f64 = state.iter().zip(&key).map(|(row, k)| row[v] * k).sum();
                        let news = gain * (value[v] - if spec.delta { held } else { 0.0 });
                        state.iter_mut().zip(&key).for_each(|(row, k)| row[v] += k * news);
                        out[(i * spec.heads + head) * spec.v_dim + v] =
                            state.iter().zip(&query).map(|(row, q)| row[v] * q).sum();
                    }
                }
            }
            out
        }
    }

    #[test]
    fn results_are_those_of_the_definition() {
        let (case, pool) = (Case::new(), Pool::new(2));
        for sharing in [KeySharing::Adjacent, KeySharing::Tiled] {
            for (delta, by_element) in [(false, false), (true, false), (true, true)] {
                let spec = RecurrenceSpec { sharing, delta, by_element, ..SPEC };
                let out = case.run(&pool, &spec, N);
                let exact = case.naive(&spec);
                let error = out.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(error < 1e-5, "{spec:?}: {error}");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_split_threads_or_cpu() {
        let case = Case::new();
        let expected = case.run(&Pool::with_isa(1, Isa::Scalar), &SPEC, N);
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            for (threads, step) in [(1, N), (2, 1), (3, 5)] {
                assert!(case.run(&Pool::with_isa(threads, isa), &SPEC, step) == expected, "{isa}, steps of {step}");
            }
        }
    }
}
