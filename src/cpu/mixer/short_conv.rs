//! A gated short convolution: `out(c * conv(b * x))`, with `b`, `c` and `x` projections of the input.

use super::super::batch::Batch;
use super::super::rows::for_rows;
use super::super::{CausalConv, Linear, Weights};
use crate::kernels::{Activations, Scratch, Store};
use crate::network::{Error, ModelSpec, ShortConvMixer};

/// A short convolution with its weights.
pub(in super::super) struct ShortConv {
    before: Linear,
    after: Linear,
    input: Linear,
    conv: CausalConv,
    output: Linear,
    cols: usize,
}

impl ShortConv {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &ShortConvMixer) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let name = |part: &str| format!("{prefix}shortconv.{part}");
        let all = Linear::load(w, &name("in_proj"), 3 * cols, cols)?;
        Ok(Self {
            before: all.rows_of(0..cols),
            after: all.rows_of(cols..2 * cols),
            input: all.rows_of(2 * cols..3 * cols),
            conv: CausalConv::load(w, &name("conv"), cols, spec.taps)?,
            output: Linear::load(w, &name("out_proj"), cols, cols)?,
            cols,
        })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let (pool, cols) = (batch.run.pool, self.cols);
        let (mut before, mut after, mut input) = (Scratch::new(x.len()), Scratch::new(x.len()), Scratch::new(x.len()));
        let mut projections = [
            self.before.projection(Store::Set, &mut before),
            self.after.projection(Store::Set, &mut after),
            self.input.projection(Store::Set, &mut input),
        ];
        batch.run.project(&Activations::new(x, cols), &mut projections);
        multiply(batch, &mut input, &before, cols);
        let mut mixed = before;
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part] * cols..batch.starts[part + 1] * cols;
            if let Some(state) = &mut batch.state(part, layer).recurrent {
                self.conv.apply(pool, state.writable().conv, &input[rows.clone()], &mut mixed[rows]);
            }
        }
        multiply(batch, &mut mixed, &after, cols);
        self.output.apply_some(batch.run, &Activations::new(&mixed, cols), batch.output_rows, store, out);
        batch.keep_output_rows();
    }
}

fn multiply(batch: &Batch<'_, '_>, x: &mut [f32], y: &[f32], cols: usize) {
    for_rows(batch.run.pool, x, cols, |i, row| {
        row.iter_mut().zip(&y[i * cols..]).for_each(|(x, y)| *x *= y);
    });
}
