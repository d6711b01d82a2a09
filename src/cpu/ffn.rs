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
}

impl Ffn {
    /// Loads `{prefix}gate{suffix}`, `{prefix}up{suffix}` and `{prefix}down{suffix}`. The hidden length follows from the shape of
    /// the down matrix.
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
        Ok(Self { activation: spec.activation, gate, up, down: Linear::load(w, &name("down"), embedding, hidden)? })
    }

    /// Adds to (or sets) `out`, `[tokens, embedding]`, from `x`, `[tokens, embedding]`.
    pub(super) fn apply(&self, run: Run<'_>, x: &Activations<'_>, tokens: usize, store: Store, out: &mut [f32]) {
        let cols = self.up.rows();
        let mut hidden = Scratch::new(tokens * cols);
        if let Some(gate) = &self.gate {
            run.project_gated(x, &mut [gate.gated(&self.up, self.activation, &mut hidden)]);
        } else {
            self.up.apply(run, x, Store::Set, &mut hidden);
            for_rows(run.pool, &mut hidden, cols, |_, row| self.activation.apply(row));
        }
        self.down.apply(run, &Activations::new(&hidden, cols), store, out);
    }
}
