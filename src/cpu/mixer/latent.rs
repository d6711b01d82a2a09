//! Multi-head latent attention in its absorbed form: the cache holds one compressed vector a position, which is
//! the key of every head (with its rotated part) and the value of every head; each head's own key and value
//! matrices act on the query before and on the result after the attention.

use super::super::batch::Batch;
use super::super::sequence::{LayerState, StateSpec};
use super::super::{AttentionSpec, KvSpec, Linear, Norm, SequenceOptions, Weights};
use crate::kernels::{Activations, Matrix, Pool, Product, Store, matmul};
use crate::network::{Error, LatentMixer, ModelSpec, Tensors};

/// A latent attention mixer with its weights.
pub(in super::super) struct Latent {
    spec: LatentMixer,
    query: Query,
    key_value: Linear,
    key_value_norm: Norm,
    /// `[kv_rank, plain_dim]` for each head.
    keys: Vec<Matrix>,
    /// `[v_dim, kv_rank]` for each head.
    values: Vec<Matrix>,
    output: Linear,
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
        Ok(Self {
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

    pub(super) fn state(&self, options: SequenceOptions) -> StateSpec {
        let (rank, rope) = (self.spec.kv_rank, self.spec.rope_dim);
        StateSpec::Cache(KvSpec { heads: 1, k_dim: rank + rope, v_dim: rank, ty: options.kv_type, window: None })
    }

    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        let spec = &self.spec;
        let pool = batch.pool;
        let (rank, rope, plain) = (spec.kv_rank, spec.rope_dim, spec.plain_dim);
        let x = Activations::new(x, self.cols);
        let mut latent = vec![0.0; batch.rows() * (rank + rope)];
        self.key_value.apply(pool, &x, Store::Set, &mut latent);
        let (mut compressed, mut rotated) = split_columns(&latent, rank, rope);
        self.key_value_norm.apply(pool, &mut compressed);
        batch.rope.apply(pool, &spec.rope, 1, &mut rotated);
        let key = join_columns(&compressed, rank, &rotated, rope);
        for part in 0..batch.parts.len() {
            let (first, end) = (batch.starts[part], batch.starts[part + 1]);
            if let LayerState::Cache(cache) = batch.state(part, layer) {
                cache.append(&key[first * (rank + rope)..end * (rank + rope)], &compressed[first * rank..end * rank]);
            }
        }
        batch.narrow();
        let rows = batch.rows();
        if rows == 0 {
            return;
        }
        // Rows of these are (row, head).
        let query = self.query(pool, &x, batch.leaving, rows);
        let (plain_query, mut rotated) = split_columns(&query, plain, rope);
        batch.rope.apply(pool, &spec.rope, spec.heads, &mut rotated);
        let absorbed = per_head(pool, &self.keys, &plain_query);
        let query = join_columns(&absorbed, rank, &rotated, rope);
        let mut mixed = vec![0.0; rows * spec.heads * rank];
        self.attend(batch, layer, &query, &mut mixed);
        let values = per_head(pool, &self.values, &mixed);
        self.output.apply(pool, &Activations::new(&values, spec.heads * spec.v_dim), store, out);
    }

    /// `[rows, heads, plain_dim + rope_dim]` of all or some rows of `x`.
    fn query(&self, pool: &Pool, x: &Activations<'_>, some: Option<&[u32]>, rows: usize) -> Vec<f32> {
        let first = |map: &Linear| {
            let mut out = vec![0.0; rows * map.rows()];
            map.apply_some(pool, x, some, Store::Set, &mut out);
            out
        };
        match &self.query {
            Query::Direct(map) => first(map),
            Query::LowRank { down, norm, up } => {
                let mut low = first(down);
                norm.apply(pool, &mut low);
                let mut query = vec![0.0; rows * up.rows()];
                up.apply(pool, &Activations::new(&low, down.rows()), Store::Set, &mut query);
                query
            }
        }
    }

    fn attend(&self, batch: &Batch<'_, '_>, layer: usize, query: &[f32], mixed: &mut [f32]) {
        let mixer = &self.spec;
        let spec = AttentionSpec {
            heads: mixer.heads,
            kv_heads: 1,
            k_dim: mixer.kv_rank + mixer.rope_dim,
            v_dim: mixer.kv_rank,
            scale: mixer.scale,
            softcap: None,
            window: None,
            sinks: None,
        };
        batch.attend(&spec, layer, query, mixed);
    }
}

/// Each head's key matrix, `[kv_rank, plain_dim]`, and value matrix, `[v_dim, kv_rank]`. In files from before the
/// absorbed form one matrix holds both, `plain_dim` rows of keys and `v_dim` of values a head: there the keys are turned,
/// as floats.
fn heads(w: &Weights, prefix: &str, spec: &LatentMixer) -> Result<(Vec<Matrix>, Vec<Matrix>), Error> {
    let (rank, plain, value) = (spec.kv_rank, spec.plain_dim, spec.v_dim);
    let each = |all: &Matrix, rows: usize| -> Vec<Matrix> {
        (0..spec.heads).map(|head| all.slice_rows(head * rows..(head + 1) * rows)).collect()
    };
    let both = format!("{prefix}attn_kv_b.weight");
    if !w.has(&both) {
        let keys = w.matrix(&format!("{prefix}attn_k_b.weight"), spec.heads * rank, plain)?;
        let values = w.matrix(&format!("{prefix}attn_v_b.weight"), spec.heads * value, rank)?;
        return Ok((each(&keys, rank), each(&values, value)));
    }
    let both = each(&w.matrix(&both, spec.heads * (plain + value), rank)?, plain + value);
    let mut row = vec![0.0; rank];
    let keys = both.iter().map(|head| {
        let mut turned = vec![0.0; rank * plain];
        for i in 0..plain {
            head.decode_row(i, &mut row);
            row.iter().enumerate().for_each(|(j, &element)| turned[j * plain + i] = element);
        }
        Matrix::from_f32(plain, &turned)
    });
    Ok((keys.collect(), both.iter().map(|head| head.slice_rows(plain..plain + value)).collect()))
}

/// Each head's own matrix on its slice: `[rows, heads, cols]` to `[rows, heads, matrix rows]`.
fn per_head(pool: &Pool, matrices: &[Matrix], x: &[f32]) -> Vec<f32> {
    let (to, from) = (matrices[0].rows(), matrices[0].cols());
    let (heads, pairs) = (matrices.len(), x.len() / from);
    let x = Activations::new(x, from);
    let rows: Vec<Vec<u32>> = (0..heads).map(|head| (0u32..).take(pairs).skip(head).step_by(heads).collect()).collect();
    let mut by_head = vec![0.0; pairs * to];
    let mut products: Vec<Product<'_>> = by_head
        .chunks_exact_mut(pairs / heads * to)
        .zip(matrices.iter().zip(&rows))
        .map(|(out, (weights, rows))| Product { weights, bias: None, tokens: Some(rows), store: Store::Set, out })
        .collect();
    matmul(pool, &x, &mut products);
    let mut out = Vec::with_capacity(by_head.len());
    for row in 0..pairs / heads {
        for head in 0..heads {
            let start = (head * (pairs / heads) + row) * to;
            out.extend_from_slice(&by_head[start..start + to]);
        }
    }
    out
}

/// `[n, a + b]` as `[n, a]` and `[n, b]`.
fn split_columns(x: &[f32], a: usize, b: usize) -> (Vec<f32>, Vec<f32>) {
    let rows = x.chunks_exact(a + b);
    (rows.clone().flat_map(|row| &row[..a]).copied().collect(), rows.flat_map(|row| &row[a..]).copied().collect())
}

/// `[n, a]` and `[n, b]` as `[n, a + b]`.
fn join_columns(x: &[f32], a: usize, y: &[f32], b: usize) -> Vec<f32> {
    x.chunks_exact(a).zip(y.chunks_exact(b)).flat_map(|(x, y)| x.iter().chain(y)).copied().collect()
}
