//! Convolution along a sequence over the latest few positions, separately for each channel.

use super::Weights;
use super::rows::for_rows;
use crate::kernels::Pool;
use crate::network::{Error, Tensors};

/// A causal convolution with its weights.
#[derive(Clone)]
pub struct CausalConv {
    /// `[taps, channels]`; the last tap belongs to the current position.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    channels: usize,
    taps: usize,
}

impl CausalConv {
    /// Loads `name.weight`, `channels` rows of `taps` elements, and `name.bias` if it exists.
    ///
    /// # Errors
    /// When the weight is missing, or either has another shape.
    pub fn load(weights: &Weights, name: &str, channels: usize, taps: usize) -> Result<Self, Error> {
        let by_channel = weights.required_vector(&format!("{name}.weight"), channels * taps)?;
        let bias = weights.vector(&format!("{name}.bias"), channels)?;
        Ok(Self::new(&by_channel, bias, channels))
    }

    /// As [`Self::load`], over the channels of several convolutions without biases, `channels` each.
    ///
    /// # Errors
    /// When a weight is missing or has another shape.
    pub fn load_joined(weights: &Weights, names: &[String], channels: usize, taps: usize) -> Result<Self, Error> {
        let mut by_channel = Vec::with_capacity(names.len() * channels * taps);
        for name in names {
            by_channel.extend(weights.required_vector(&format!("{name}.weight"), channels * taps)?);
        }
        Ok(Self::new(&by_channel, None, names.len() * channels))
    }

    fn new(by_channel: &[f32], bias: Option<Vec<f32>>, channels: usize) -> Self {
        let taps = by_channel.len() / channels;
        let weight = (0..taps).flat_map(|tap| by_channel[tap..].iter().step_by(taps).copied()).collect();
        Self { weight, bias, channels, taps }
    }

    /// Elements of the state, `[taps - 1, channels]`: the latest inputs. It starts as zeros.
    #[must_use]
    pub fn state_len(&self) -> usize {
        Self::state_len_of(self.channels, self.taps)
    }

    /// Elements of the state of a convolution of `channels` channels that sees `taps` positions.
    #[must_use]
    pub fn state_len_of(channels: usize, taps: usize) -> usize {
        taps.saturating_sub(1) * channels
    }

    /// `out[i][c] = bias[c] + sum over taps of weight[tap][c] * x[i - taps + 1 + tap][c]` for `x` and `out` of
    /// `[n, channels]`; positions before the first come from `state`, which then holds the latest ones.
    ///
    /// # Panics
    /// If shapes do not agree.
    pub fn apply(&self, pool: &Pool, state: &mut [f32], x: &[f32], out: &mut [f32]) {
        let (channels, before) = (self.channels, self.state_len());
        assert_eq!(x.len(), out.len());
        assert_eq!(state.len(), before);
        // The input of a position and tap, counted from the state's first position.
        let held = &*state;
        let source = |row: usize| {
            let at = row * channels;
            if at < before { &held[at..at + channels] } else { &x[at - before..at - before + channels] }
        };
        for_rows(pool, out, channels, |i, out| {
            match &self.bias {
                Some(bias) => out.copy_from_slice(bias),
                None => out.fill(0.0),
            }
            for (tap, weight) in self.weight.chunks_exact(channels).enumerate() {
                out.iter_mut().zip(weight).zip(source(i + tap)).for_each(|((sum, w), x)| *sum += w * x);
            }
        });
        if x.len() >= before {
            state.copy_from_slice(&x[x.len() - before..]);
        } else {
            state.copy_within(x.len().., 0);
            state[before - x.len()..].copy_from_slice(x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_those_of_the_definition_for_any_split() {
        let (channels, taps, n) = (3, 4, 11);
        let numbers = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).cos()).collect::<Vec<_>>();
        let (weight, bias, x) = (numbers(channels * taps, 0.7), numbers(channels, 1.1), numbers(n * channels, 0.3));
        let conv = CausalConv::new(&weight, Some(bias.clone()), channels);
        let pool = Pool::new(2);
        let run = |step: usize| {
            let mut state = vec![0.0; conv.state_len()];
            let mut out = vec![0.0; x.len()];
            for (x, out) in x.chunks(step * channels).zip(out.chunks_mut(step * channels)) {
                conv.apply(&pool, &mut state, x, out);
            }
            out
        };
        let out = run(n);
        for i in 0..n {
            for c in 0..channels {
                let back = |tap: usize| (i + tap + 1).checked_sub(taps);
                let terms = (0..taps).filter_map(|tap| Some(weight[c * taps + tap] * x[back(tap)? * channels + c]));
                assert!((terms.sum::<f32>() + bias[c] - out[i * channels + c]).abs() < 1e-6);
            }
        }
        for step in [1, 2, 5] {
            assert_eq!(run(step), out, "steps of {step}");
        }
    }
}
