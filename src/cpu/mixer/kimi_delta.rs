//! Kimi's delta attention: a gated delta net whose state decays by element of a key, by gates of low rank.

use super::super::batch::Batch;
use super::super::recurrence::{softplus, unit_heads};
use super::super::rows::for_rows;
use super::super::sequence::Memory;
use super::super::{CausalConv, Linear, Norm, RecurrenceInput, RecurrenceSpec, Weights, recurrence};
use crate::kernels::{Activations, List, Scratch, Store};
use crate::network::{Activation, Error, KimiDeltaMixer, ModelSpec, NormKind, NormSpec};

/// A delta attention with its weights.
pub(in super::super) struct KimiDelta {
    spec: RecurrenceSpec,
    /// Queries, keys and values.
    inputs: [Linear; 3],
    /// Over all three.
    conv: CausalConv,
    /// Step widths of low rank, and of all elements.
    step: [Linear; 2],
    /// Added to the step width.
    step_bias: Vec<f32>,
    /// Logarithm of the decay a step of each head, negative.
    rate: Vec<f32>,
    /// Correction strengths.
    strength: Linear,
    /// The output's gate of low rank, and of all elements.
    gate: [Linear; 2],
    norm: Norm,
    output: Linear,
    cols: usize,
}

impl KimiDelta {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &KimiDeltaMixer) -> Result<Self, Error> {
        let (cols, inner) = (model.embedding_length, spec.heads * spec.dim);
        let name = |part: &str| format!("{prefix}{part}");
        let input = |part: &str| Linear::load(w, &name(part), inner, cols);
        let low_rank = |a: &str, b: &str| {
            Ok::<_, Error>([Linear::load(w, &name(a), spec.dim, cols)?, Linear::load(w, &name(b), inner, spec.dim)?])
        };
        let convs = ["ssm_conv1d_q", "ssm_conv1d_k", "ssm_conv1d_v"].map(name);
        let norm = NormSpec { kind: NormKind::Rms, ..model.norm };
        Ok(Self {
            spec: spec.into(),
            inputs: [input("attn_q")?, input("attn_k")?, input("attn_v")?],
            conv: CausalConv::load_joined(w, &convs, inner, spec.taps)?,
            step: low_rank("ssm_f_a", "ssm_f_b")?,
            step_bias: w.required_vector(&name("ssm_dt.bias"), inner)?,
            rate: w.required_vector(&name("ssm_a"), spec.heads)?,
            strength: Linear::load(w, &name("ssm_beta"), spec.heads, cols)?,
            gate: low_rank("ssm_g_a", "ssm_g_b")?,
            norm: Norm::load(w, &name("ssm_norm"), spec.dim, norm)?,
            output: Linear::load(w, &name("attn_output"), cols, inner)?,
            cols,
        })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let (run, pool, spec, rows) = (batch.run, batch.run.pool, &self.spec, batch.rows());
        let (heads, dim, inner) = (spec.heads, spec.k_dim, spec.heads * spec.k_dim);
        let x = Activations::new(x, self.cols);
        let mut parts = [(); 3].map(|()| Scratch::new(rows * inner));
        let (mut low, mut low_gate) = (Scratch::new(rows * dim), Scratch::new(rows * dim));
        let mut gain = Scratch::new(rows * heads);
        let mut projections: List<_> =
            self.inputs.iter().zip(&mut parts).map(|(map, out)| map.projection(Store::Set, out)).collect();
        projections.push(self.step[0].projection(Store::Set, &mut low));
        projections.push(self.gate[0].projection(Store::Set, &mut low_gate));
        projections.push(self.strength.projection(Store::Set, &mut gain));
        run.project(&x, &mut projections);
        drop(projections);
        gain.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
        let (mut decay, mut gate) = (Scratch::new(rows * inner), Scratch::new(rows * inner));
        self.step[1].apply(run, &Activations::new(&low, dim), Store::Set, &mut decay);
        self.gate[1].apply(run, &Activations::new(&low_gate, dim), Store::Set, &mut gate);
        for_rows(pool, &mut decay, inner, |_, row| {
            for ((row, bias), rate) in row.chunks_exact_mut(dim).zip(self.step_bias.chunks_exact(dim)).zip(&self.rate) {
                row.iter_mut().zip(bias).for_each(|(v, bias)| *v = (softplus(*v + bias) * rate).exp());
            }
        });
        let mut input = Scratch::new(rows * 3 * inner);
        for (row, out) in input.chunks_exact_mut(3 * inner).enumerate() {
            for (part, out) in parts.iter().zip(out.chunks_exact_mut(inner)) {
                out.copy_from_slice(&part[row * inner..(row + 1) * inner]);
            }
        }
        let (mut mixed, mut result) = (Scratch::zeros(input.len()), Scratch::zeros(rows * inner));
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part]..batch.starts[part + 1];
            let of = |cols: usize| rows.start * cols..rows.end * cols;
            let Some(state) = &mut batch.state(part, layer).recurrent else { continue };
            let Memory { conv, state } = state.writable();
            self.conv.apply(pool, conv, &input[of(3 * inner)], &mut mixed[of(3 * inner)]);
            for_rows(pool, &mut mixed[of(3 * inner)], 3 * inner, |_, row| {
                Activation::Silu.apply(row);
                unit_heads(&mut row[..2 * inner], dim, heads);
            });
            let input = RecurrenceInput {
                mixed: &mixed[of(3 * inner)],
                stride: 3 * inner,
                query_at: 0,
                key_at: inner,
                value_at: 2 * inner,
                decay: &decay[of(inner)],
                gain: &gain[of(heads)],
            };
            recurrence(pool, spec, state, &input, &mut result[of(inner)]);
        }
        self.norm.apply(pool, &mut result);
        for_rows(pool, &mut result, inner, |i, row| {
            row.iter_mut().zip(&gate[i * inner..]).for_each(|(v, g)| *v /= 1.0 + (-g).exp());
        });
        self.output.apply_some(run, &Activations::new(&result, inner), batch.output_rows, store, out);
        batch.keep_output_rows();
    }
}
