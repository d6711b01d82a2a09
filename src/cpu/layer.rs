//! One layer of a decoder: mixer, feed-forward part, and the residual stream around them.

use super::altup::AltUpLayer;
use super::batch::Batch;
use super::dense_and_experts::DenseAndExperts;
use super::ffn::Ffn;
use super::laurel::Laurel;
use super::mixer::MixerWeights;
use super::moe::Moe;
use super::rows::{copy_rows, for_rows, keep_rows, move_rows};
use super::{Linear, Norm, Run, Weights};
use crate::kernels::{Activations, Pool, Scratch, Store, vector};
use crate::network::{Activation, Error, FeedForward, LayerSpec, ModelSpec, Tensors, Wiring};

/// A layer with its weights.
pub(super) struct Layer {
    index: usize,
    wiring: Wiring,
    residual_scale: f32,
    cols: usize,
    mixer_in: Option<Norm>,
    mixer: MixerWeights,
    mixer_out: Option<Norm>,
    mixer_sum: Option<Norm>,
    laurel: Option<Laurel>,
    feed_forward_in: Option<Norm>,
    /// Whether the feed-forward part has the same normed input as the mixer.
    shared_in: bool,
    feed_forward: FeedForwardWeights,
    feed_forward_out: Option<Norm>,
    feed_forward_sum: Option<Norm>,
    layer_input: Option<LayerInput>,
    altup: Option<AltUpLayer>,
    /// Factor of the layer's output.
    output_scale: Option<f32>,
}

enum FeedForwardWeights {
    None,
    Dense(Box<Ffn>),
    Experts(Box<Moe>),
    DenseAndExperts(Box<DenseAndExperts>),
}

/// The gate through which a per-layer token embedding is added.
struct LayerInput {
    gate: Linear,
    projection: Linear,
    norm: Norm,
    length: usize,
}

impl Layer {
    pub(super) fn load(w: &Weights, index: usize, model: &ModelSpec, spec: &LayerSpec) -> Result<Self, Error> {
        let prefix = format!("blk.{index}.");
        let cols = model.embedding_length;
        let norm = |name: Option<&str>| {
            name.map(|name| Norm::load(w, &format!("{prefix}{name}"), cols, model.norm)).transpose()
        };
        let shared_in = spec.wiring == Wiring::Parallel && spec.norms.feed_forward_in == spec.norms.mixer_in;
        let feed_forward = match &spec.feed_forward {
            FeedForward::None => FeedForwardWeights::None,
            FeedForward::Dense(dense) => {
                let ffn = Ffn::load(w, &format!("{prefix}ffn_"), "", cols, *dense)?;
                FeedForwardWeights::Dense(Box::new(ffn.cut(spec.gate_cut)))
            }
            FeedForward::Experts(experts) => {
                FeedForwardWeights::Experts(Box::new(Moe::load(w, &prefix, cols, experts)?))
            }
            FeedForward::DenseAndExperts(dense, experts) => FeedForwardWeights::DenseAndExperts(Box::new(
                DenseAndExperts::load(w, &prefix, model, *dense, experts)?,
            )),
        };
        let layer_input = model.layer_inputs.map(|inputs| {
            Ok(LayerInput {
                gate: Linear::load(w, &format!("{prefix}inp_gate"), inputs.length, cols)?,
                projection: Linear::load(w, &format!("{prefix}proj"), cols, inputs.length)?,
                norm: Norm::load(w, &format!("{prefix}post_norm"), cols, model.norm)?,
                length: inputs.length,
            })
        });
        let output_scale = w.vector(&format!("{prefix}layer_output_scale.weight"), 1)?;
        Ok(Self {
            index,
            wiring: spec.wiring,
            residual_scale: spec.residual_scale,
            cols,
            mixer_in: norm(spec.norms.mixer_in)?,
            mixer: MixerWeights::load(w, &prefix, model, &spec.mixer)?,
            mixer_out: norm(spec.norms.mixer_out)?,
            mixer_sum: norm(spec.norms.mixer_sum)?,
            laurel: Laurel::load(w, &prefix, model)?,
            feed_forward_in: if shared_in { None } else { norm(spec.norms.feed_forward_in)? },
            shared_in,
            feed_forward,
            feed_forward_out: norm(spec.norms.feed_forward_out)?,
            feed_forward_sum: norm(spec.norms.feed_forward_sum)?,
            layer_input: layer_input.transpose()?,
            altup: model.altup.map(|altup| AltUpLayer::load(w, &prefix, model, altup)).transpose()?,
            output_scale: output_scale.map(|scale| scale[0]),
        })
    }

    /// The layer with its state at another place among those of a sequence.
    pub(super) fn with_state(self, index: usize) -> Self {
        Self { index, ..self }
    }

    /// Whether the output of a position never depends on later positions.
    pub(super) fn is_causal(&self) -> bool {
        self.mixer.is_causal()
    }

    /// Takes the residual stream `x`, `[rows, embedding]`, through the layer, as far as rows leave it; of a model with
    /// several streams all of them, `[rows, streams, embedding]`.
    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, x: &mut Vec<f32>) {
        let Some(altup) = &self.altup else {
            let kept = self.parts(batch, x);
            x.truncate(kept);
            if let Some(own) = self.layer_input.as_ref().filter(|_| !x.is_empty()) {
                let input = own.compute(batch, self.index, x);
                vector::add(x, &input);
            }
            if let Some(scale) = self.output_scale {
                x.iter_mut().for_each(|v| *v *= scale);
            }
            return;
        };
        let run = batch.run;
        altup.predict(run, x);
        let mut active = altup.active(run.pool, x);
        if let Some(output_rows) = batch.output_rows {
            keep_rows(x, x.len() / active.len() * self.cols, output_rows);
        }
        let kept = self.parts(batch, &mut active);
        active.truncate(kept);
        if x.is_empty() {
            return;
        }
        altup.correct(run, x, &active);
        if let Some(own) = &self.layer_input {
            let input = own.compute(batch, self.index, &altup.scaled(run.pool, x));
            altup.add_to_others(run.pool, x, &input);
        }
    }

    /// Takes one residual stream, `[rows, embedding]`, through mixer and feed-forward part. The rows that leave the layer stand
    /// at the front of `x` then; returns the number of their elements.
    fn parts(&self, batch: &mut Batch<'_, '_>, mut x: &mut [f32]) -> usize {
        let run = batch.run;
        let none = self.mixer.is_none();
        let mut input = if none { Scratch::new(0) } else { normed(run.pool, self.mixer_in.as_ref(), x, self.cols) };
        if let Some(output_rows) = batch.output_rows {
            move_rows(x, self.cols, output_rows);
            x = &mut x[..output_rows.len() * self.cols];
        }
        let mixed_into_stream =
            none || self.wiring == Wiring::Sequential && self.mixer_out.is_none() && self.residual_scale == 1.0;
        let mut mixed = Scratch::new(0);
        if mixed_into_stream {
            self.mixer.apply(batch, self.index, &input, Store::Add, x);
        } else {
            mixed = Scratch::new(x.len());
            self.mixer.apply(batch, self.index, &input, Store::Set, &mut mixed);
        }
        if x.is_empty() {
            return 0;
        }
        if let Some(output_rows) = batch.output_rows.filter(|_| self.shared_in || self.laurel.is_some()) {
            move_rows(&mut input, self.cols, output_rows);
            input.truncate(output_rows.len() * self.cols);
        }
        if !mixed.is_empty() && self.wiring == Wiring::Sequential {
            self.add_residual(run.pool, self.mixer_out.as_ref(), &mut mixed, x);
        }
        if let Some(norm) = &self.mixer_sum {
            norm.apply(run.pool, x);
        }
        if let Some(laurel) = &self.laurel {
            laurel.join(run, &input, x);
        }
        self.feed_forward(run, &input, x);
        if self.wiring == Wiring::Parallel {
            self.add_residual(run.pool, self.mixer_out.as_ref(), &mut mixed, x);
        }
        if let Some(norm) = &self.feed_forward_sum {
            norm.apply(run.pool, x);
        }
        x.len()
    }

    fn feed_forward(&self, run: Run<'_>, mixer_input: &[f32], x: &mut [f32]) {
        if matches!(self.feed_forward, FeedForwardWeights::None) {
            return;
        }
        let own;
        let input = if self.shared_in {
            mixer_input
        } else {
            own = normed(run.pool, self.feed_forward_in.as_ref(), x, self.cols);
            &own
        };
        let rows = x.len() / self.cols;
        let input = Activations::new(input, self.cols);
        let into_stream = self.feed_forward_out.is_none() && self.residual_scale == 1.0;
        match &self.feed_forward {
            FeedForwardWeights::None => {}
            FeedForwardWeights::Dense(ffn) if into_stream => ffn.apply(run, &input, rows, Store::Add, x),
            FeedForwardWeights::Dense(ffn) => {
                let mut out = Scratch::new(x.len());
                ffn.apply(run, &input, rows, Store::Set, &mut out);
                self.add_residual(run.pool, self.feed_forward_out.as_ref(), &mut out, x);
            }
            FeedForwardWeights::Experts(moe) => {
                let mut out = Scratch::new(x.len());
                moe.apply(run, &input, rows, &mut out);
                self.add_residual(run.pool, self.feed_forward_out.as_ref(), &mut out, x);
            }
            FeedForwardWeights::DenseAndExperts(both) => {
                let mut out = Scratch::new(x.len());
                both.apply(run, x, &input, &mut out);
                self.add_residual(run.pool, self.feed_forward_out.as_ref(), &mut out, x);
            }
        }
    }

    /// Adds a part's output to the residual stream, after its norm and with the layer's scale.
    fn add_residual(&self, pool: &Pool, norm: Option<&Norm>, part: &mut [f32], x: &mut [f32]) {
        if let Some(norm) = norm {
            norm.apply(pool, part);
        }
        for_rows(pool, x, self.cols, |i, row| {
            vector::add_scaled(row, &part[i * self.cols..(i + 1) * self.cols], self.residual_scale);
        });
    }
}

impl LayerInput {
    /// What it adds to the residual stream `x`.
    fn compute(&self, batch: &Batch<'_, '_>, layer: usize, x: &[f32]) -> Scratch {
        let cols = self.projection.rows();
        let rows = x.len() / cols;
        let mut gate = Scratch::new(rows * self.length);
        self.gate.apply(batch.run, &Activations::new(x, cols), Store::Set, &mut gate);
        let stride = batch.layer_inputs.len() / batch.rows();
        for_rows(batch.run.pool, &mut gate, self.length, |i, row| {
            Activation::GeluTanh.apply(row);
            row.iter_mut().zip(&batch.layer_inputs[i * stride + layer * self.length..]).for_each(|(g, v)| *g *= v);
        });
        let mut out = Scratch::new(x.len());
        self.projection.apply(batch.run, &Activations::new(&gate, self.length), Store::Set, &mut out);
        self.norm.apply(batch.run.pool, &mut out);
        out
    }
}

/// A copy of `x`, rows of `cols`, with the norm applied if there is one.
fn normed(pool: &Pool, norm: Option<&Norm>, x: &[f32], cols: usize) -> Scratch {
    copy_rows(pool, x, cols, |row| {
        if let Some(norm) = norm {
            norm.apply_row(row);
        }
    })
}
