//! Softmax attention: projections, norms, rotary embedding, cache, and the output projection.

use super::super::batch::Batch;
use super::super::linear::Projection;
use super::super::recurrence::softplus;
use super::super::rows::for_rows;
use super::super::{AttentionSpec, Linear, Norm, Weights};
use crate::kernels::{Activations, List, Scratch, Store};
use crate::network::{AttentionMixer, Error, ModelSpec, NormSpec, OutputGate, Tensors, alibi_slopes};

/// An attention mixer with its weights.
pub(in super::super) struct Attention {
    spec: AttentionMixer,
    query: Linear,
    /// Key and value projection; none where another layer's cache is read.
    key_value: Option<(Linear, Linear)>,
    output: Linear,
    /// A gate of the result, beside the query projection.
    gate: Option<Linear>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    value_norm: Option<Norm>,
    sinks: Option<Vec<f32>>,
    /// How much scores fall a position, of each head.
    slopes: Option<Vec<f32>>,
    cols: usize,
}

impl Attention {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &AttentionMixer) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let name = |part: &str| format!("{prefix}attn_{part}");
        let query_rows = spec.heads * spec.k_dim * if spec.output_gate { 2 } else { 1 };
        let (key_rows, value_rows) = (spec.kv_heads * spec.k_dim, spec.kv_heads * spec.v_dim);
        let (query, key_value) = if spec.shares_kv_of.is_some() {
            (Linear::load(w, &name("q"), query_rows, cols)?, None)
        } else if let Some(all) = Linear::load_optional(w, &name("qkv"), query_rows + key_rows + value_rows, cols)? {
            let values = query_rows + key_rows;
            let key_value = (all.rows_of(query_rows..values), all.rows_of(values..values + value_rows));
            (all.rows_of(0..query_rows), Some(key_value))
        } else {
            let key = Linear::load(w, &name("k"), key_rows, cols)?;
            // Families without a value projection use the keys (before their norm) as values.
            let value = match Linear::load_optional(w, &name("v"), value_rows, cols)? {
                Some(value) => value,
                None if key_rows == value_rows => key.clone(),
                None => return Err(Error::MissingTensor { name: name("v.weight") }),
            };
            (Linear::load(w, &name("q"), query_rows, cols)?, Some((key, value)))
        };
        let norm_spec = NormSpec { kind: spec.qk_norm, ..model.norm };
        let norm = |part: &str, heads: usize| {
            if spec.plain_qk_norm {
                return Ok(Some(Norm::plain(spec.k_dim, norm_spec)));
            }
            Norm::load_heads(w, &name(part), spec.k_dim, heads, norm_spec)
        };
        // One for each head, or for each element.
        let gates = match w.get(&name("gate.weight")) {
            Some(matrix) if matrix.rows() == spec.heads => spec.heads,
            _ => spec.heads * spec.v_dim,
        };
        Ok(Self {
            query,
            key_value,
            output: Linear::load(w, &name("output"), cols, spec.heads * spec.v_dim)?,
            gate: Linear::load_optional(w, &name("gate"), gates, cols)?,
            query_norm: norm("q_norm", spec.heads)?,
            key_norm: norm("k_norm", spec.kv_heads)?,
            value_norm: spec.value_norm.then(|| Norm::plain(spec.v_dim, model.norm)),
            sinks: w.vector(&name("sinks.weight"), spec.heads)?,
            slopes: spec.max_alibi.map(|max| alibi_slopes(max, spec.heads)),
            spec: spec.clone(),
            cols,
        })
    }

    /// Whether a position sees only those up to itself.
    pub(super) fn is_causal(&self) -> bool {
        self.spec.causal
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let rows = batch.rows();
        let spec = &self.spec;
        let x = Activations::new(x, self.cols);
        let mut query = Scratch::new(batch.output_rows.map_or(rows, <[u32]>::len) * self.query.rows());
        let mut gate = Scratch::new(self.gate.as_ref().map_or(0, |gate| query.len() / self.query.rows() * gate.rows()));
        let lens = self.key_value.as_ref().map_or((0, 0), |(key, value)| (rows * key.rows(), rows * value.rows()));
        let (mut key, mut value) = (Scratch::new(lens.0), Scratch::new(lens.1));
        let mut projections = List::with_capacity(4);
        projections.push(Projection { tokens: batch.output_rows, ..self.query.projection(Store::Set, &mut query) });
        if let Some(map) = &self.gate {
            projections.push(Projection { tokens: batch.output_rows, ..map.projection(Store::Set, &mut gate) });
        }
        if let Some((key_map, value_map)) = &self.key_value {
            projections.push(key_map.projection(Store::Set, &mut key));
            projections.push(value_map.projection(Store::Set, &mut value));
        }
        batch.run.project(&x, &mut projections);
        drop(projections);
        if self.key_value.is_some() {
            self.clamp(&mut key);
            self.clamp(&mut value);
            self.norm_and_rope(batch, self.key_norm.as_ref(), spec.kv_heads, &mut key);
            if let Some(norm) = &self.value_norm {
                norm.apply(batch.run.pool, &mut value);
            }
            self.append_to_cache(batch, layer, &key, &value);
        }
        drop((key, value));
        batch.keep_output_rows();
        let rows = batch.rows();
        if rows == 0 {
            return;
        }
        self.clamp(&mut query);
        if spec.output_gate {
            gate = split_gate(&mut query, spec.k_dim);
        }
        self.norm_and_rope(batch, self.query_norm.as_ref(), spec.heads, &mut query);
        if let Some(scale) = &spec.length_scale {
            batch.scale_by_position(scale, &mut query);
        }
        let mut mixed = Scratch::new(rows * spec.heads * spec.v_dim);
        self.attend(batch, spec.shares_kv_of.unwrap_or(layer), &query, &mut mixed);
        self.scale(batch, &gate, &mut mixed);
        self.output.apply(batch.run, &Activations::new(&mixed, spec.heads * spec.v_dim), store, out);
    }

    /// Norm and rotary embedding of queries or keys, `[rows, heads, k_dim]`.
    fn norm_and_rope(&self, batch: &mut Batch<'_, '_>, norm: Option<&Norm>, heads: usize, x: &mut [f32]) {
        let spec = &self.spec;
        if let Some(norm) = norm.filter(|_| !spec.norm_after_rope) {
            norm.apply(batch.run.pool, x);
        }
        if let Some(rope) = &spec.rope {
            batch.rope.apply(batch.run.pool, rope, heads, x);
        }
        if let Some(norm) = norm.filter(|_| spec.norm_after_rope) {
            norm.apply(batch.run.pool, x);
        }
    }

    fn clamp(&self, x: &mut [f32]) {
        if let Some(most) = self.spec.clamp {
            x.iter_mut().for_each(|v| *v = v.clamp(-most, most));
        }
    }

    /// Multiplies the attention's result, `[rows, heads, v_dim]`, by its gates, `[rows, heads]` or as many as it has
    /// elements, and by its factor.
    fn scale(&self, batch: &Batch<'_, '_>, gate: &[f32], mixed: &mut [f32]) {
        let (spec, cols) = (&self.spec, self.spec.heads * self.spec.v_dim);
        if !gate.is_empty() {
            // Elements that a gate is for.
            let each = mixed.len() / gate.len();
            for_rows(batch.run.pool, mixed, cols, |i, row| {
                for (values, g) in row.chunks_exact_mut(each).zip(&gate[i * cols / each..]) {
                    match spec.gate {
                        OutputGate::Sigmoid => values.iter_mut().for_each(|v| *v /= 1.0 + (-g).exp()),
                        OutputGate::Softplus => {
                            let factor = softplus(*g);
                            values.iter_mut().for_each(|v| *v *= factor);
                        }
                    }
                }
            });
        }
        if spec.value_scale != 1.0 {
            mixed.iter_mut().for_each(|v| *v *= spec.value_scale);
        }
    }

    /// Appends the keys and values of all rows to the caches of their sequences.
    fn append_to_cache(&self, batch: &mut Batch<'_, '_>, layer: usize, key: &[f32], value: &[f32]) {
        let (k, v) = (self.spec.kv_heads * self.spec.k_dim, self.spec.kv_heads * self.spec.v_dim);
        let pool = batch.run.pool;
        for part in 0..batch.parts.len() {
            let rows = batch.starts[part]..batch.starts[part + 1];
            if let Some(cache) = &mut batch.state(part, layer).cache {
                cache.append(pool, &key[rows.start * k..rows.end * k], &value[rows.start * v..rows.end * v]);
            }
        }
    }

    fn attend(&self, batch: &Batch<'_, '_>, layer: usize, query: &[f32], mixed: &mut [f32]) {
        let mixer = &self.spec;
        let spec = AttentionSpec {
            heads: mixer.heads,
            kv_heads: mixer.kv_heads,
            k_dim: mixer.k_dim,
            v_dim: mixer.v_dim,
            scale: mixer.scale,
            softcap: mixer.softcap,
            causal: mixer.causal,
            window: mixer.window,
            slopes: self.slopes.as_deref(),
            chunk: mixer.chunk,
            sinks: self.sinks.as_deref(),
        };
        batch.attend(&spec, layer, false, query, mixed);
    }
}

/// Splits `[.., heads, (query, gate)]`: `query` keeps the queries, the gates are returned.
fn split_gate(query: &mut Scratch, k_dim: usize) -> Scratch {
    let mut gate = Scratch::new(query.len() / 2);
    let mut kept = 0;
    for start in (0..query.len()).step_by(2 * k_dim) {
        gate[kept..kept + k_dim].copy_from_slice(&query[start + k_dim..start + 2 * k_dim]);
        query.copy_within(start..start + k_dim, kept);
        kept += k_dim;
    }
    query.truncate(kept);
    gate
}
