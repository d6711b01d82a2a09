//! A gated delta net: a linear attention whose state decays, and whose value for a key is corrected, not added to.

use super::super::batch::Batch;
use super::super::recurrence::{softplus, unit_heads};
use super::super::rows::for_rows;
use super::super::sequence::Memory;
use super::super::{CausalConv, Linear, Norm, RecurrenceInput, RecurrenceSpec, Weights, recurrence};
use crate::kernels::{Activations, List, Scratch, Store};
use crate::network::{Activation, DeltaNetMixer, Error, ModelSpec, NormKind, NormSpec};

/// A gated delta net with its weights.
pub(in super::super) struct DeltaNet {
    spec: RecurrenceSpec,
    query_key_value: Linear,
    conv: CausalConv,
    control: Control,
    /// Added to the step width.
    step_bias: Vec<f32>,
    /// Logarithm of the decay a step, negative.
    rate: Vec<f32>,
    /// The output's gate.
    gate: Linear,
    norm: Norm,
    output: Linear,
    cols: usize,
}

/// The projections to each head's correction strength and step width.
enum Control {
    Separate {
        strength: Linear,
        step: Linear,
    },
    /// One tensor: for each key head the strengths of its value heads, then their steps.
    Joint(Linear),
}

impl DeltaNet {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &DeltaNetMixer) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let (heads, keys, values) = (spec.heads, spec.key_heads * spec.k_dim, spec.heads * spec.v_dim);
        let name = |part: &str| format!("{prefix}{part}");
        let control = match Linear::load_optional(w, &name("ssm_ba"), 2 * heads, cols)? {
            Some(joint) => Control::Joint(joint),
            None => Control::Separate {
                strength: Linear::load(w, &name("ssm_beta"), heads, cols)?,
                step: Linear::load(w, &name("ssm_alpha"), heads, cols)?,
            },
        };
        let norm = NormSpec { kind: NormKind::Rms, ..model.norm };
        Ok(Self {
            spec: spec.into(),
            query_key_value: Linear::load(w, &name("attn_qkv"), 2 * keys + values, cols)?,
            conv: CausalConv::load(w, &name("ssm_conv1d"), 2 * keys + values, spec.taps)?,
            control,
            step_bias: w.required_vector(&name("ssm_dt.bias"), heads)?,
            rate: w.required_vector(&name("ssm_a"), heads)?,
            gate: Linear::load(w, &name("attn_gate"), values, cols)?,
            norm: Norm::load(w, &name("ssm_norm"), spec.v_dim, norm)?,
            output: Linear::load(w, &name("ssm_out"), cols, values)?,
            cols,
        })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let (pool, spec, rows) = (batch.run.pool, &self.spec, batch.rows());
        let (heads, values) = (spec.heads, spec.heads * spec.v_dim);
        let (stride, keys) = (self.query_key_value.rows(), spec.key_heads * spec.k_dim);
        let mut input = Scratch::new(rows * stride);
        let mut gate = Scratch::new(rows * values);
        let (mut gain, mut decay) = (Scratch::new(rows * heads), Scratch::new(rows * heads));
        let is_joint = matches!(self.control, Control::Joint(_));
        let mut joint = Scratch::new(if is_joint { rows * 2 * heads } else { 0 });
        let mut projections = List::with_capacity(4);
        projections.push(self.query_key_value.projection(Store::Set, &mut input));
        projections.push(self.gate.projection(Store::Set, &mut gate));
        match &self.control {
            Control::Separate { strength, step } => {
                projections.push(strength.projection(Store::Set, &mut gain));
                projections.push(step.projection(Store::Set, &mut decay));
            }
            Control::Joint(map) => {
                projections.push(map.projection(Store::Set, &mut joint));
            }
        }
        batch.run.project(&Activations::new(x, self.cols), &mut projections);
        drop(projections);
        self.split_control(&joint, &mut gain, &mut decay);
        gain.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
        for row in decay.chunks_exact_mut(heads) {
            for ((v, bias), rate) in row.iter_mut().zip(&self.step_bias).zip(&self.rate) {
                *v = (softplus(*v + bias) * rate).exp();
            }
        }
        let (mut mixed, mut result) = (Scratch::zeros(input.len()), Scratch::zeros(rows * values));
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part]..batch.starts[part + 1];
            let of = |cols: usize| rows.start * cols..rows.end * cols;
            let Some(state) = &mut batch.state(part, layer).recurrent else { continue };
            let Memory { conv, state } = state.writable();
            self.conv.apply(pool, conv, &input[of(stride)], &mut mixed[of(stride)]);
            for_rows(pool, &mut mixed[of(stride)], stride, |_, row| {
                Activation::Silu.apply(row);
                unit_heads(&mut row[..2 * keys], spec.k_dim, spec.key_heads);
            });
            let input = RecurrenceInput {
                mixed: &mixed[of(stride)],
                stride,
                query_at: 0,
                key_at: keys,
                value_at: 2 * keys,
                decay: &decay[of(heads)],
                gain: &gain[of(heads)],
            };
            recurrence(pool, spec, state, &input, &mut result[of(values)]);
        }
        for_rows(pool, &mut gate, values, |i, gate| {
            let mut own = Scratch::copy_of(&result[i * values..(i + 1) * values]);
            self.norm.apply_row(&mut own);
            Activation::Silu.apply_gated(gate, &own);
        });
        self.output.apply_some(batch.run, &Activations::new(&gate, values), batch.output_rows, store, out);
        batch.keep_output_rows();
    }

    /// Splits a joint projection, if there is one, into strengths and steps, both `[rows, heads]`.
    fn split_control(&self, joint: &[f32], strength: &mut [f32], step: &mut [f32]) {
        let group = self.spec.heads / self.spec.key_heads;
        let targets = strength.chunks_exact_mut(group).zip(step.chunks_exact_mut(group));
        for (both, (strength, step)) in joint.chunks_exact(2 * group).zip(targets) {
            strength.copy_from_slice(&both[..group]);
            step.copy_from_slice(&both[group..]);
        }
    }
}
