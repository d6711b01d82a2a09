//! The dense feed-forward part of a layer.

use super::rows::for_rows;
use super::{Linear, Run, Weights};
use crate::kernels::{Activations, Scratch, Store};
use crate::network::{Activation, Dense, Error, Gate};

/// `down(act(gate(x)) * up(x))`, or `down(act(up(x)))`.
pub(super) struct Ffn {
    activation: Activation,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    /// See [`crate::network::LayerSpec::gate_cut`].
    cut: Option<f32>,
}

impl Ffn {
    /// With a cut through the gates.
    pub(super) fn cut(self, cut: Option<f32>) -> Self {
        Self { cut, ..self }
    }

    /// Takes `{prefix}gate{suffix}`, `{prefix}up{suffix}` and `{prefix}down{suffix}`; the hidden length is what the
    /// down matrix shows.
    pub(super) fn load(w: &Weights, prefix: &str, suffix: &str, embedding: usize, spec: Dense) -> Result<Self, Error> {
        let name = |part: &str| format!("{prefix}{part}{suffix}");
        let down = format!("{}.weight", name("down"));
        let hidden = w.get(&down).ok_or(Error::MissingTensor { name: down })?.cols();
        let (gate, up) = match spec.gate {
            Gate::None => (None, Linear::load(w, &name("up"), hidden, embedding)?),
            Gate::Separate => (
                Some(Linear::load(w, &name("gate"), hidden, embedding)?),
                Linear::load(w, &name("up"), hidden, embedding)?,
            ),
            Gate::InUp => {
                let both = Linear::load(w, &name("up"), 2 * hidden, embedding)?;
                (Some(both.rows_of(0..hidden)), both.rows_of(hidden..2 * hidden))
            }
        };
        Ok(Self {
            activation: spec.activation,
            gate,
            up,
            down: Linear::load(w, &name("down"), embedding, hidden)?,
            cut: None,
        })
    }

    /// Adds to (or sets) `out`, `[tokens, embedding]`, from `x`, `[tokens, embedding]`.
    pub(super) fn apply(&self, run: Run<'_>, x: &Activations<'_>, tokens: usize, store: Store, out: &mut [f32]) {
        let cols = self.up.rows();
        let mut hidden = Scratch::new(tokens * cols);
        if let (Some(gate), Some(cut)) = (&self.gate, self.cut) {
            let mut ups = Scratch::new(tokens * cols);
            run.project(x, &mut [gate.projection(Store::Set, &mut hidden), self.up.projection(Store::Set, &mut ups)]);
            for_rows(run.pool, &mut hidden, cols, |i, gates| {
                cut_off(gates, cut);
                self.activation.apply_gated(gates, &ups[i * cols..(i + 1) * cols]);
            });
        } else if let Some(gate) = &self.gate {
            run.project_gated(x, &mut [gate.gated(&self.up, self.activation, &mut hidden)]);
        } else {
            self.up.apply(run, x, Store::Set, &mut hidden);
            for_rows(run.pool, &mut hidden, cols, |_, row| self.activation.apply(row));
        }
        self.down.apply(run, &Activations::new(&hidden, cols), store, out);
    }
}

/// What of each element is above the mean of all plus `deviations` of their standard deviations; 0 below.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
fn cut_off(row: &mut [f32], deviations: f32) {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    #[allow(clippy::cast_possible_truncation, reason = "rounded at last")]
    let edge = (mean + variance.sqrt() * f64::from(deviations)) as f32;
    row.iter_mut().for_each(|x| *x = (*x - edge).max(0.0));
}

#[cfg(test)]
mod tests {
    use super::cut_off;

    #[test]
    fn what_is_above_the_edge_stays() {
        // Mean 2, deviation 1 (of all, not of a sample).
        let mut row = [1.0, 3.0, 1.0, 3.0];
        cut_off(&mut row, 0.5);
        assert_eq!(row, [0.0, 0.5, 0.0, 0.5]);
    }
}
