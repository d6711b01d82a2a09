//! Mamba 2: a linear recurrence whose state decays by a step width that depends on the input.

use super::super::batch::Batch;
use super::super::recurrence::softplus;
use super::super::rows::for_rows;
use super::super::sequence::Memory;
use super::super::{CausalConv, Linear, Norm, RecurrenceInput, RecurrenceSpec, Weights, recurrence};
use crate::kernels::{Activations, Scratch, Store};
use crate::network::{Activation, Error, Mamba2Mixer, ModelSpec, NormKind, NormSpec};

/// A Mamba 2 mixer with its weights.
pub(in super::super) struct Mamba2 {
    spec: RecurrenceSpec,
    /// The output's gate.
    gate: Linear,
    /// Values, keys and queries (`x`, `B` and `C` in the paper).
    input: Linear,
    /// Step widths.
    step: Linear,
    conv: CausalConv,
    /// Added to the step width.
    step_bias: Vec<f32>,
    /// Logarithm of the decay a step, negative.
    rate: Vec<f32>,
    /// Factor of the values that are added to the output directly (`D` in the paper).
    skip: Vec<f32>,
    norm: Option<Norm>,
    output: Linear,
    cols: usize,
}

impl Mamba2 {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &Mamba2Mixer) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let name = |part: &str| format!("{prefix}ssm_{part}");
        let inner = spec.heads * spec.v_dim;
        let mixed = inner + 2 * spec.groups * spec.k_dim;
        let all = Linear::load(w, &name("in"), inner + mixed + spec.heads, cols)?;
        let norm = NormSpec { kind: NormKind::Rms, ..model.norm };
        Ok(Self {
            spec: spec.into(),
            gate: all.rows_of(0..inner),
            input: all.rows_of(inner..inner + mixed),
            step: all.rows_of(inner + mixed..inner + mixed + spec.heads),
            conv: CausalConv::load(w, &name("conv1d"), mixed, spec.taps)?,
            step_bias: w.required_vector(&name("dt.bias"), spec.heads)?,
            rate: w.required_vector(&name("a"), spec.heads)?,
            skip: w.required_vector(&name("d"), spec.heads)?,
            norm: Norm::load_heads(w, &name("norm"), inner / spec.groups, spec.groups, norm)?,
            output: Linear::load(w, &name("out"), cols, inner)?,
            cols,
        })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        self.mix(batch, layer, x, store, out);
        batch.keep_output_rows();
    }

    /// As [`Self::apply`], and leaves the batch as it is.
    pub(super) fn mix(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let (pool, spec, rows) = (batch.run.pool, &self.spec, batch.rows());
        let (heads, inner, stride) = (spec.heads, spec.heads * spec.v_dim, self.input.rows());
        let (mut gate, mut input) = (Scratch::new(rows * inner), Scratch::new(rows * stride));
        let mut step = Scratch::new(rows * heads);
        let mut projections = [
            self.gate.projection(Store::Set, &mut gate),
            self.input.projection(Store::Set, &mut input),
            self.step.projection(Store::Set, &mut step),
        ];
        batch.run.project(&Activations::new(x, self.cols), &mut projections);
        let mut decay = Scratch::new(step.len());
        for (step, decay) in step.chunks_exact_mut(heads).zip(decay.chunks_exact_mut(heads)) {
            for head in 0..heads {
                step[head] = softplus(step[head] + self.step_bias[head]);
                decay[head] = (step[head] * self.rate[head]).exp();
            }
        }
        let (mut mixed, mut result) = (Scratch::zeros(input.len()), Scratch::zeros(rows * inner));
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part]..batch.starts[part + 1];
            let of = |cols: usize| rows.start * cols..rows.end * cols;
            let Some(state) = &mut batch.state(part, layer).recurrent else { continue };
            let Memory { conv, state } = state.writable();
            self.conv.apply(pool, conv, &input[of(stride)], &mut mixed[of(stride)]);
            for_rows(pool, &mut mixed[of(stride)], stride, |_, row| Activation::Silu.apply(row));
            let input = RecurrenceInput {
                mixed: &mixed[of(stride)],
                stride,
                query_at: inner + spec.key_heads * spec.k_dim,
                key_at: inner,
                value_at: 0,
                decay: &decay[of(heads)],
                gain: &step[of(heads)],
            };
            recurrence(pool, spec, state, &input, &mut result[of(inner)]);
        }
        for_rows(pool, &mut gate, inner, |i, gate| {
            let own = result[i * inner..(i + 1) * inner].chunks_exact(spec.v_dim);
            let values = mixed[i * stride..].chunks_exact(spec.v_dim);
            let skipping = own.zip(values).zip(&self.skip);
            let mut sums = Scratch::new(inner);
            for (sums, ((own, values), d)) in sums.chunks_exact_mut(spec.v_dim).zip(skipping) {
                sums.iter_mut().zip(own.iter().zip(values)).for_each(|(sum, (o, v))| *sum = o + v * d);
            }
            Activation::Silu.apply_gated(gate, &sums);
            if let Some(norm) = &self.norm {
                norm.apply_row(gate);
            }
        });
        self.output.apply_some(batch.run, &Activations::new(&gate, inner), batch.output_rows, store, out);
    }
}
