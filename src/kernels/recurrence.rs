//! A gated linear recurrence over the positions of one head, for sixteen elements of its values.
//!
//! Lanes are elements of the value, so that sums over the key's elements never cross lanes. Each such sum is four
//! interleaved partial sums, which two additions combine.

use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes};

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
    /// `[n, 1]`.
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
            let decay = l.splat(decay.row(i)[0]);
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

#[inline(always)]
fn join<L: Lanes>(l: L, sums: [L::Float; CHAINS]) -> L::Float {
    let [a, b, c, d] = sums;
    l.add(l.add(a, b), l.add(c, d))
}
