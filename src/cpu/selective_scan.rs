//! Mamba 1's selective scan: every channel carries a state whose decay depends on the input and on the element.
//!
//! Positions follow one another and channels are independent: their numbers depend neither on how a sequence is split into
//! calls nor on threads.

use std::sync::{Mutex, PoisonError};

use super::rows::for_rows;
use crate::kernels::recurrence::{Columns, SelectiveScan};
use crate::kernels::{LANES, List, Pool, Scratch};
use crate::network::Mamba1Mixer;

/// Vectors of channels that a task goes through.
const VECTORS: usize = 4;

/// Rates of decay, laid out for sixteen channels at a time.
pub(super) struct ScanRates {
    /// In units of `ln 2`: `[ceil(channels / 16), state, 16]`.
    rates: Vec<[f32; LANES]>,
    state: usize,
}

impl ScanRates {
    /// From `[channels, state]`: what the logarithm of a state's decay is a unit of step width.
    pub(super) fn new(by_channel: &[f32], state: usize) -> Self {
        let channels = by_channel.len() / state;
        let mut rates = vec![[0.0; LANES]; channels.div_ceil(LANES) * state];
        for (channel, row) in by_channel.chunks_exact(state).enumerate() {
            for (n, rate) in row.iter().enumerate() {
                rates[channel / LANES * state + n][channel % LANES] = rate * std::f32::consts::LOG2_E;
            }
        }
        Self { rates, state }
    }
}

/// Elements of the state of a scan, `[ceil(channels / 16), state, 16]`; it starts as zeros.
pub(super) fn scan_state_len(mixer: &Mamba1Mixer) -> usize {
    mixer.channels.div_ceil(LANES) * mixer.state * LANES
}

/// What goes into a scan at `n` positions.
pub(super) struct ScanInput<'a> {
    /// `[n, channels]`.
    pub(super) values: &'a [f32],
    /// Step widths, `[n, channels]`.
    pub(super) steps: &'a [f32],
    /// `[n, state]`.
    pub(super) keys: &'a [f32],
    /// `[n, state]`.
    pub(super) queries: &'a [f32],
}

/// Takes the state of each channel through `n` positions: `S = exp(step rate) S + step value key`, `out = S query`, with
/// `S`, `rate`, `key` and `query` of `state` elements. `out` is `[n, channels]`.
///
/// # Panics
/// If shapes do not agree.
pub(super) fn selective_scan(
    pool: &Pool,
    rates: &ScanRates,
    channels: usize,
    state: &mut [f32],
    input: &ScanInput<'_>,
    out: &mut [f32],
) {
    let (n, len, vectors) = (out.len() / channels, rates.state, channels.div_ceil(LANES));
    assert_eq!(state.len(), vectors * len * LANES, "a state of another shape");
    assert!(input.values.len() == n * channels && input.steps.len() == n * channels, "inputs of {n} positions");
    assert!(input.keys.len() == n * len && input.queries.len() == n * len, "keys of {n} positions");
    if n == 0 {
        return;
    }
    // [vectors, n, 16]
    let mut memory = Scratch::zeros(vectors * n * LANES);
    let results = memory.as_chunks_mut::<LANES>().0;
    let tasks: List<_> = state
        .as_chunks_mut::<LANES>()
        .0
        .chunks_mut(VECTORS * len)
        .zip(results.chunks_mut(VECTORS * n))
        .map(Mutex::new)
        .collect();
    pool.run(tasks.len(), &|task| {
        // Each task locks its own channels, once: nobody ever waits.
        let mut own = tasks[task].lock().unwrap_or_else(PoisonError::into_inner);
        let (state, results) = &mut *own;
        for (i, (state, out)) in state.chunks_mut(len).zip(results.chunks_mut(n)).enumerate() {
            let vector = task * VECTORS + i;
            let first = vector * LANES;
            let width = LANES.min(channels - first);
            let of_channels = |rows| Columns { rows, stride: channels, len: width };
            pool.isa().run(SelectiveScan {
                state,
                rate: &rates.rates[vector * len..(vector + 1) * len],
                query: Columns { rows: input.queries, stride: len, len },
                key: Columns { rows: input.keys, stride: len, len },
                value: of_channels(&input.values[first..]),
                step: of_channels(&input.steps[first..]),
                out,
            });
        }
    });
    drop(tasks);
    for_rows(pool, out, channels, |i, row| {
        for (vector, row) in row.chunks_mut(LANES).enumerate() {
            row.copy_from_slice(&results[vector * n + i][..row.len()]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    const N: usize = 23;
    const CHANNELS: usize = 150;
    const STATE: usize = 6;

    struct Case {
        rates: Vec<f32>,
        values: Vec<f32>,
        steps: Vec<f32>,
        keys: Vec<f32>,
        queries: Vec<f32>,
    }

    impl Case {
        fn new() -> Self {
            let wave = |n: usize, step: f32| (0..n).map(move |i| (i as f32 * step).sin());
            Self {
                rates: wave(CHANNELS * STATE, 0.7).map(|x| -1.5 - x).collect(),
                values: wave(N * CHANNELS, 1.7).collect(),
                steps: wave(N * CHANNELS, 0.3).map(|x| 0.6 + 0.5 * x).collect(),
                keys: wave(N * STATE, 2.1).collect(),
                queries: wave(N * STATE, 1.1).collect(),
            }
        }

        fn run(&self, pool: &Pool, step: usize) -> Vec<f32> {
            let rates = ScanRates::new(&self.rates, STATE);
            let mut state = vec![0.0; CHANNELS.div_ceil(LANES) * STATE * LANES];
            let mut out = vec![0.0; N * CHANNELS];
            for (i, out) in out.chunks_mut(step * CHANNELS).enumerate() {
                let rows = i * step..i * step + out.len() / CHANNELS;
                let of = |x: &'_ [f32], cols: usize| x[rows.start * cols..rows.end * cols].to_vec();
                let (values, steps) = (of(&self.values, CHANNELS), of(&self.steps, CHANNELS));
                let (keys, queries) = (of(&self.keys, STATE), of(&self.queries, STATE));
                let input = ScanInput { values: &values, steps: &steps, keys: &keys, queries: &queries };
                selective_scan(pool, &rates, CHANNELS, &mut state, &input, out);
            }
            out
        }
    }

    #[test]
    fn results_are_those_of_the_definition() {
        let case = Case::new();
        let out = case.run(&Pool::new(2), N);
        let at = |x: &[f32], i: usize| f64::from(x[i]);
        for channel in 0..CHANNELS {
            let mut state = [0.0f64; STATE];
            for i in 0..N {
                let (step, value) = (at(&case.steps, i * CHANNELS + channel), at(&case.values, i * CHANNELS + channel));
                let mut sum = 0.0;
                for (n, state) in state.iter_mut().enumerate() {
                    let decay = (step * at(&case.rates, channel * STATE + n)).exp();
                    *state = *state * decay + step * value * at(&case.keys, i * STATE + n);
                    sum += *state * at(&case.queries, i * STATE + n);
                }
                assert!((f64::from(out[i * CHANNELS + channel]) - sum).abs() < 1e-5, "channel {channel} at {i}");
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_split_threads_or_cpu() {
        let case = Case::new();
        let expected = case.run(&Pool::with_isa(1, Isa::Scalar), N);
        for &isa in Isa::ALL.iter().filter(|isa| isa.available()) {
            for (threads, step) in [(1, N), (2, 1), (3, 5)] {
                assert!(case.run(&Pool::with_isa(threads, isa), step) == expected, "{isa}, steps of {step}");
            }
        }
    }
}
