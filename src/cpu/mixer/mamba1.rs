//! Mamba 1: a selective scan, whose step widths, keys and queries are projections of the convolved input.

use super::super::batch::Batch;
use super::super::recurrence::softplus;
use super::super::rows::for_rows;
use super::super::selective_scan::{ScanInput, ScanRates, selective_scan};
use super::super::{CausalConv, Linear, Norm, Weights};
use crate::kernels::{Activations, List, Scratch, Store};
use crate::network::{Activation, Error, Mamba1Mixer, ModelSpec, NormKind, NormSpec, Tensors};

/// A Mamba 1 mixer with its weights.
pub(in super::super) struct Mamba1 {
    spec: Mamba1Mixer,
    input: Linear,
    /// The output's gate.
    gate: Linear,
    conv: CausalConv,
    /// Step widths (of low rank), keys and queries: which the field calls `dt`, `B` and `C`.
    parts: [Part; 3],
    /// Step widths of all channels.
    step: Linear,
    rates: ScanRates,
    /// Factor of the values that skip the scan.
    skip: Vec<f32>,
    output: Linear,
    cols: usize,
}

/// A projection of the convolved input, and its norm.
struct Part {
    map: Linear,
    norm: Option<Norm>,
}

impl Mamba1 {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &Mamba1Mixer) -> Result<Self, Error> {
        let (cols, channels) = (model.embedding_length, spec.channels);
        let name = |part: &str| format!("{prefix}ssm_{part}");
        let both = Linear::load(w, &name("in"), 2 * channels, cols)?;
        let all = Linear::load(w, &name("x"), spec.rank + 2 * spec.state, channels)?;
        let norms = NormSpec { kind: NormKind::Rms, ..model.norm };
        let part = |first: usize, len: usize, norm: &str| {
            let tensor = name(norm);
            let norm = match spec.plain_norms {
                Some(epsilon) => Some(Norm::plain(len, NormSpec { epsilon, ..norms })),
                None if w.has(&format!("{tensor}.weight")) => Some(Norm::load(w, &tensor, len, norms)?),
                None => None,
            };
            Ok::<_, Error>(Part { map: all.rows_of(first..first + len), norm })
        };
        Ok(Self {
            input: both.rows_of(0..channels),
            gate: both.rows_of(channels..2 * channels),
            conv: CausalConv::load(w, &name("conv1d"), channels, spec.taps)?,
            parts: [
                part(0, spec.rank, "dt_norm")?,
                part(spec.rank, spec.state, "b_norm")?,
                part(spec.rank + spec.state, spec.state, "c_norm")?,
            ],
            step: Linear::load(w, &name("dt"), channels, spec.rank)?,
            rates: ScanRates::new(&w.required_vector(&name("a"), channels * spec.state)?, spec.state),
            skip: w.required_vector(&name("d"), channels)?,
            output: Linear::load(w, &name("out"), cols, channels)?,
            spec: *spec,
            cols,
        })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let (run, pool, rows, channels) = (batch.run, batch.run.pool, batch.rows(), self.spec.channels);
        let (mut input, mut gate) = (Scratch::new(rows * channels), Scratch::new(rows * channels));
        let mut projections =
            [self.input.projection(Store::Set, &mut input), self.gate.projection(Store::Set, &mut gate)];
        run.project(&Activations::new(x, self.cols), &mut projections);
        let mut values = Scratch::zeros(input.len());
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part] * channels..batch.starts[part + 1] * channels;
            if let Some(state) = &mut batch.state(part, layer).recurrent {
                self.conv.apply(pool, state.writable().conv, &input[rows.clone()], &mut values[rows]);
            }
        }
        for_rows(pool, &mut values, channels, |_, row| Activation::Silu.apply(row));
        let [low, keys, queries] = self.parts(batch, &values);
        let mut steps = input;
        self.step.apply(run, &Activations::new(&low, self.spec.rank), Store::Set, &mut steps);
        for_rows(pool, &mut steps, channels, |_, row| row.iter_mut().for_each(|step| *step = softplus(*step)));
        let mut result = Scratch::zeros(rows * channels);
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part]..batch.starts[part + 1];
            let of = |cols: usize| rows.start * cols..rows.end * cols;
            let Some(state) = &mut batch.state(part, layer).recurrent else { continue };
            let input = ScanInput {
                values: &values[of(channels)],
                steps: &steps[of(channels)],
                keys: &keys[of(self.spec.state)],
                queries: &queries[of(self.spec.state)],
            };
            let state = state.writable().state;
            selective_scan(pool, &self.rates, channels, state, &input, &mut result[of(channels)]);
        }
        for_rows(pool, &mut gate, channels, |i, gate| {
            let row = i * channels..(i + 1) * channels;
            let skipping = result[row.clone()].iter().zip(&values[row]).zip(&self.skip);
            let sums: List<f32> = skipping.map(|((own, value), d)| own + value * d).collect();
            Activation::Silu.apply_gated(gate, &sums);
        });
        self.output.apply_some(run, &Activations::new(&gate, channels), batch.output_rows, store, out);
        batch.keep_output_rows();
    }

    /// Step widths (of low rank), keys and queries, normed.
    fn parts(&self, batch: &Batch<'_, '_>, values: &[f32]) -> [Scratch; 3] {
        let mut all = self.parts.each_ref().map(|part| Scratch::new(batch.rows() * part.map.rows()));
        let mut projections: List<_> =
            self.parts.iter().zip(&mut all).map(|(part, out)| part.map.projection(Store::Set, out)).collect();
        batch.run.project(&Activations::new(values, self.spec.channels), &mut projections);
        drop(projections);
        for (part, out) in self.parts.iter().zip(&mut all) {
            if let Some(norm) = &part.norm {
                norm.apply(batch.run.pool, out);
            }
        }
        all
    }
}
