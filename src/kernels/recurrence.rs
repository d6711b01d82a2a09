//! Recurrences over the positions of a sequence: a gated linear one, for sixteen elements of a head's values, and a selective
//! scan, for sixteen channels.
//!
//! Lanes are elements of the value, so that sums over the key's elements never cross lanes. Each such sum is four
//! interleaved partial sums, which two additions combine.

use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes, exp2};

/// Partial sums of a sum.
const CHAINS: usize = 4;

/// A range of columns of a row-major buffer.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    /// The buffer, from the first row's first column on.
    pub(crate) rows: &'a [f32],
    /// Elements from row to row.
    pub(crate) stride: usize,
    /// Columns.
    pub(crate) len: usize,
}

impl<'a> Columns<'a> {
    #[inline(always)]
    fn row(&self, i: usize) -> &'a [f32] {
        &self.rows[i * self.stride..][..self.len]
    }
}

/// At each position, for state `S`, `[k_dim, 16]`: `S = decay S + key (gain (value - delta decay S^T key))^T`, and
/// then `out = S^T query`.
pub(crate) struct Recurrence<'a> {
    /// `[k_dim, 16]`.
    pub(crate) state: &'a mut [[f32; LANES]],
    /// `[n, k_dim]`.
    pub(crate) query: Columns<'a>,
    /// `[n, k_dim]`.
    pub(crate) key: Columns<'a>,
    /// `[n, up to 16]`.
    pub(crate) value: Columns<'a>,
    /// `[n, 1]`, or `[n, k_dim]` where each element of a key has its own.
    pub(crate) decay: Columns<'a>,
    /// `[n, 1]`.
    pub(crate) gain: Columns<'a>,
    /// Whether the state's present value for the key is subtracted from the value first (the delta rule).
    pub(crate) delta: bool,
    /// `[n, 16]`.
    pub(crate) out: &'a mut [[f32; LANES]],
}

impl Kernel for Recurrence<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { state, query, key, value, decay, gain, delta, out } = self;
        for (i, out) in out.iter_mut().enumerate() {
            let (query, key) = (query.row(i), key.row(i));
            let decay = match decay.row(i) {
                [all] => l.splat(*all),
                each => {
                    for (state, decay) in state.iter_mut().zip(each) {
                        *state = l.to_array(l.mul(l.array(state), l.splat(*decay)));
                    }
                    l.splat(1.0)
                }
            };
            let mut padded = [0.0; LANES];
            padded[..value.len].copy_from_slice(value.row(i));
            let mut news = l.array(&padded);
            if delta {
                let mut sums = [l.splat(0.0); CHAINS];
                for (states, keys) in state.chunks(CHAINS).zip(key.chunks(CHAINS)) {
                    for ((sum, state), key) in sums.iter_mut().zip(states).zip(keys) {
                        *sum = l.mul_add(l.array(state), l.splat(*key), *sum);
                    }
                }
                news = l.sub(news, l.mul(join(l, sums), decay));
            }
            news = l.mul(news, l.splat(gain.row(i)[0]));
            let mut sums = [l.splat(0.0); CHAINS];
            let rows = state.chunks_mut(CHAINS).zip(key.chunks(CHAINS)).zip(query.chunks(CHAINS));
            for ((states, keys), queries) in rows {
                for (((sum, state), key), query) in sums.iter_mut().zip(states).zip(keys).zip(queries) {
                    let next = l.mul_add(l.array(state), decay, l.mul(news, l.splat(*key)));
                    *state = l.to_array(next);
                    *sum = l.mul_add(next, l.splat(*query), *sum);
                }
            }
            *out = l.to_array(join(l, sums));
        }
    }
}

/// A selective scan (Mamba 1) of sixteen channels: at each position, for element `n` of the state,
/// `S[n] = exp(step rate[n]) S[n] + step value key[n]`, and then `out = sum over n of S[n] query[n]`.
pub(crate) struct SelectiveScan<'a> {
    /// `[state, 16]`.
    pub(crate) state: &'a mut [[f32; LANES]],
    /// Of decay, in units of `ln 2`, negative: `[state, 16]`.
    pub(crate) rate: &'a [[f32; LANES]],
    /// `[n, state]`.
    pub(crate) query: Columns<'a>,
    /// `[n, state]`.
    pub(crate) key: Columns<'a>,
    /// `[n, up to 16]`.
    pub(crate) value: Columns<'a>,
    /// As wide as the values.
    pub(crate) step: Columns<'a>,
    /// `[n, 16]`.
    pub(crate) out: &'a mut [[f32; LANES]],
}

impl Kernel for SelectiveScan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { state, rate, query, key, value, step, out } = self;
        let padded = |row: &[f32]| {
            let mut padded = [0.0; LANES];
            padded[..row.len()].copy_from_slice(row);
            l.array(&padded)
        };
        for (i, out) in out.iter_mut().enumerate() {
            let step = padded(step.row(i));
            let news = l.mul(step, padded(value.row(i)));
            let mut sums = [l.splat(0.0); CHAINS];
            let factors = key.row(i).chunks(CHAINS).zip(query.row(i).chunks(CHAINS));
            for ((states, rates), (keys, queries)) in state.chunks_mut(CHAINS).zip(rate.chunks(CHAINS)).zip(factors) {
                let elements = states.iter_mut().zip(rates).zip(keys.iter().zip(queries));
                for (sum, ((state, rate), (key, query))) in sums.iter_mut().zip(elements) {
                    let decay = exp2(l, l.mul(step, l.array(rate)));
                    let next = l.mul_add(l.array(state), decay, l.mul(news, l.splat(*key)));
                    *state = l.to_array(next);
                    *sum = l.mul_add(next, l.splat(*query), *sum);
                }
            }
            *out = l.to_array(join(l, sums));
        }
    }
}

#[inline(always)]
fn join<L: Lanes>(l: L, sums: [L::Float; CHAINS]) -> L::Float {
    let [a, b, c, d] = sums;
    l.add(l.add(a, b), l.add(c, d))
}
