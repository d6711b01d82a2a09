//! Multi-head latent attention (MLA) in its absorbed form: the cache holds one compressed vector per position, which is the
//! key of every head (together with a rotated part) and the value of every head. Each head's key matrix is applied to the
//! query before the attention, and its value matrix to the result after it.

use super::super::batch::Batch;
use super::super::linear::Projection;
use super::super::{AttentionSpec, Linear, Norm, Run, Weights};
use super::indexer::IndexerWeights;
use crate::kernels::{Activations, List, Matrix, Scratch, Store};
use crate::network::{Error, LatentMixer, ModelSpec, Selection};

/// A latent attention mixer with its weights.
pub(in super::super) struct Latent {
    spec: LatentMixer,
    query: Query,
    key_value: Linear,
    key_value_norm: Norm,
    /// `[kv_rank, plain_dim]` for each head.
    keys: Vec<Linear>,
    /// `[v_dim, kv_rank]` for each head.
    values: Vec<Linear>,
    output: Linear,
    /// Selects the positions that are seen, where this layer does.
    indexer: Option<IndexerWeights>,
    cols: usize,
}

/// The query projection, direct or through a low rank.
enum Query {
    Direct(Linear),
    LowRank { down: Linear, norm: Norm, up: Linear },
}

impl Latent {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: &LatentMixer) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let name = |part: &str| format!("{prefix}attn_{part}");
        let query_rows = spec.heads * (spec.plain_dim + spec.rope_dim);
        let query = if let Some(matrix) = w.get(&name("q_a.weight")) {
            let rank = matrix.rows();
            Query::LowRank {
                down: Linear::load(w, &name("q_a"), rank, cols)?,
                norm: Norm::load(w, &name("q_a_norm"), rank, model.norm)?,
                up: Linear::load(w, &name("q_b"), query_rows, rank)?,
            }
        } else {
            Query::Direct(Linear::load(w, &name("q"), query_rows, cols)?)
        };
        let (keys, values) = heads(w, prefix, spec)?;
        let indexer = match (&spec.selection, &query) {
            (Some(Selection::Indexer(indexer)), Query::LowRank { down, .. }) => {
                let first = spec.kv_rank + spec.rope_dim;
                Some(IndexerWeights::load(w, prefix, indexer, (cols, down.rows(), first))?)
            }
            _ => None,
        };
        Ok(Self {
            indexer,
            query,
            key_value: Linear::load(w, &name("kv_a_mqa"), spec.kv_rank + spec.rope_dim, cols)?,
            key_value_norm: Norm::load(w, &name("kv_a_norm"), spec.kv_rank, model.norm)?,
            keys,
            values,
            output: Linear::load(w, &name("output"), cols, spec.heads * spec.v_dim)?,
            spec: spec.clone(),
            cols,
        })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let spec = &self.spec;
        let (run, pool) = (batch.run, batch.run.pool);
        let (rank, rope, plain) = (spec.kv_rank, spec.rope_dim, spec.plain_dim);
        let x = Activations::new(x, self.cols);
        let mut latent = Scratch::new(batch.rows() * (rank + rope));
        self.key_value.apply(run, &x, Store::Set, &mut latent);
        let (mut compressed, mut rotated) = split_columns(&latent, rank, rope);
        self.key_value_norm.apply(pool, &mut compressed);
        if let Some(rope) = &spec.rope {
            batch.rope.apply(pool, rope, 1, &mut rotated);
        }
        let mut key = join_columns(&compressed, rank, &rotated, rope);
        let length = spec.key_length();
        if let Some(indexer) = &self.indexer {
            key = join_columns(&key, rank + rope, &indexer.keys(batch, &x), length - rank - rope);
        }
        for part in 0..batch.parts.len() {
            let (first, end) = (batch.starts[part], batch.starts[part + 1]);
            if let Some(cache) = &mut batch.state(part, layer).cache {
                let keys = &key[first * length..end * length];
                cache.append(pool, keys, &compressed[first * rank..end * rank]);
            }
        }
        batch.keep_output_rows();
        let rows = batch.rows();
        if rows == 0 {
            return;
        }
        // Rows of these are (row, head).
        let (mut query, low) = self.query(run, &x, batch.output_rows, rows);
        if let Some(indexer) = &self.indexer {
            indexer.select(batch, layer, &x, &low);
        }
        if let Some(scale) = &spec.length_scale {
            batch.scale_by_position(scale, &mut query);
        }
        let (plain_query, mut rotated) = split_columns(&query, plain, rope);
        if let Some(rope) = &spec.rope {
            batch.rope.apply(pool, rope, spec.heads, &mut rotated);
        }
        let absorbed = per_head(run, &self.keys, &plain_query);
        let mut query = join_columns(&absorbed, rank, &rotated, rope);
        if length > rank + rope {
            // The indexer's part of a key has no share in the scores.
            let indexed = length - rank - rope;
            query = join_columns(&query, rank + rope, &Scratch::zeros(rows * spec.heads * indexed), indexed);
        }
        let mut mixed = Scratch::zeros(rows * spec.heads * rank);
        self.attend(batch, layer, &query, &mut mixed);
        let values = per_head(run, &self.values, &mixed);
        self.output.apply(run, &Activations::new(&values, spec.heads * spec.v_dim), store, out);
    }

    /// `[rows, heads, plain_dim + rope_dim]` of all or some rows of `x`, and the compressed queries, `[rows, rank]`, where
    /// there are any.
    fn query(&self, run: Run<'_>, x: &Activations<'_>, some: Option<&[u32]>, rows: usize) -> (Scratch, Scratch) {
        let first = |map: &Linear| {
            let mut out = Scratch::new(rows * map.rows());
            map.apply_some(run, x, some, Store::Set, &mut out);
            out
        };
        match &self.query {
            Query::Direct(map) => (first(map), Scratch::new(0)),
            Query::LowRank { down, norm, up } => {
                let mut low = first(down);
                norm.apply(run.pool, &mut low);
                let mut query = Scratch::new(rows * up.rows());
                up.apply(run, &Activations::new(&low, down.rows()), Store::Set, &mut query);
                (query, low)
            }
        }
    }

    fn attend(&self, batch: &Batch<'_, '_>, layer: usize, query: &[f32], mixed: &mut [f32]) {
        let mixer = &self.spec;
        let spec = AttentionSpec {
            heads: mixer.heads,
            kv_heads: 1,
            k_dim: mixer.key_length(),
            v_dim: mixer.kv_rank,
            scale: mixer.scale,
            softcap: None,
            slopes: None,
            causal: true,
            window: None,
            chunk: None,
            sinks: None,
        };
        batch.attend(&spec, layer, mixer.selection.is_some(), query, mixed);
    }
}

/// Each head's key matrix, `[kv_rank, plain_dim]`, and value matrix, `[v_dim, kv_rank]`. Files from before the absorbed form
/// have one matrix for both, with `plain_dim` rows of keys and `v_dim` rows of values for each head; the keys are then
/// transposed, as floats.
fn heads(w: &Weights, prefix: &str, spec: &LatentMixer) -> Result<(Vec<Linear>, Vec<Linear>), Error> {
    let (rank, plain, value) = (spec.kv_rank, spec.plain_dim, spec.v_dim);
    let each = |all: &Linear, rows: usize| -> Vec<Linear> { (0..spec.heads).map(|h| all.stacked(h, rows)).collect() };
    let name = |part: &str| format!("{prefix}attn_{part}");
    let Some(both) = Linear::load_optional(w, &name("kv_b"), spec.heads * (plain + value), rank)? else {
        let keys = Linear::load(w, &name("k_b"), spec.heads * rank, plain)?;
        let values = Linear::load(w, &name("v_b"), spec.heads * value, rank)?;
        return Ok((each(&keys, rank), each(&values, value)));
    };
    let both = each(&both, plain + value);
    let mut row = vec![0.0; rank];
    let keys = both.iter().map(|head| {
        let mut turned = vec![0.0; rank * plain];
        for i in 0..plain {
            head.weight().decode_row(i, &mut row);
            row.iter().enumerate().for_each(|(j, &element)| turned[j * plain + i] = element);
        }
        Linear::from_matrix(&name("k_b.weight"), Matrix::from_f32(plain, &turned))
    });
    Ok((keys.collect(), both.iter().map(|head| head.rows_of(plain..plain + value)).collect()))
}

/// Each head's own matrix on its slice: `[rows, heads, cols]` to `[rows, heads, matrix rows]`.
fn per_head(run: Run<'_>, maps: &[Linear], x: &[f32]) -> Scratch {
    let (to, from) = (maps[0].rows(), maps[0].weight().cols());
    let (heads, pairs) = (maps.len(), x.len() / from);
    let x = Activations::new(x, from);
    // The pairs of each head, head after head.
    let rows: List<u32> = (0..heads).flat_map(|head| (0u32..).take(pairs).skip(head).step_by(heads)).collect();
    let mut by_head = Scratch::new(pairs * to);
    let mut projections: List<Projection<'_>> = by_head
        .chunks_exact_mut(pairs / heads * to)
        .zip(maps.iter().zip(rows.chunks_exact(pairs / heads)))
        .map(|(out, (map, rows))| Projection { map, tokens: Some(rows), store: Store::Set, out })
        .collect();
    run.project(&x, &mut projections);
    drop(projections);
    let mut out = Scratch::new(by_head.len());
    for (pair, out) in out.chunks_exact_mut(to).enumerate() {
        let (row, head) = (pair / heads, pair % heads);
        out.copy_from_slice(&by_head[(head * (pairs / heads) + row) * to..][..to]);
    }
    out
}

/// `[n, a + b]` as `[n, a]` and `[n, b]`.
fn split_columns(x: &[f32], a: usize, b: usize) -> (Scratch, Scratch) {
    let rows = x.len() / (a + b);
    let (mut first, mut rest) = (Scratch::new(rows * a), Scratch::new(rows * b));
    for (i, row) in x.chunks_exact(a + b).enumerate() {
        first[i * a..(i + 1) * a].copy_from_slice(&row[..a]);
        rest[i * b..(i + 1) * b].copy_from_slice(&row[a..]);
    }
    (first, rest)
}

/// `[n, a]` and `[n, b]` as `[n, a + b]`.
fn join_columns(x: &[f32], a: usize, y: &[f32], b: usize) -> Scratch {
    let mut out = Scratch::new(x.len() + y.len());
    for (i, row) in out.chunks_exact_mut(a + b).enumerate() {
        row[..a].copy_from_slice(&x[i * a..(i + 1) * a]);
        row[a..].copy_from_slice(&y[i * b..(i + 1) * b]);
    }
    out
}
