//! Alternating updates: what stands around a layer whose residual stream is one of several, and how the streams come
//! from the embeddings and go back to one. Rows are `[streams, embedding]`.

use super::rows::for_rows;
use super::{Linear, Norm, Run, Weights};
use crate::kernels::{Activations, List, Pool, Scratch, Store};
use crate::network::{AltUp, Error, ModelSpec, Tensors};

/// Least mean square by which a made stream is brought to the size of the first.
const LEAST_SQUARE: f32 = 1e-5;

/// The maps from the embeddings to further streams, and back.
pub(super) struct Streams {
    spec: AltUp,
    cols: usize,
    spread: Vec<Linear>,
    gather: Vec<Linear>,
}

impl Streams {
    pub(super) fn load(w: &Weights, model: &ModelSpec, spec: AltUp) -> Result<Self, Error> {
        let (cols, further) = (model.embedding_length, spec.streams - 1);
        let maps = |name: &str| {
            let all = Linear::from_matrix(name, w.matrix(name, further * cols, cols)?);
            Ok::<_, Error>((0..further).map(|i| all.stacked(i, cols)).collect())
        };
        Ok(Self { spec, cols, spread: maps("altup_proj.weight")?, gather: maps("altup_unembd_proj.weight")? })
    }

    /// All streams, `[rows, streams, embedding]`, of embeddings, `[rows, embedding]`: the first is these, each other one a
    /// map of them, as large.
    pub(super) fn spread(&self, run: Run<'_>, x: &[f32]) -> Vec<f32> {
        let mut all = vec![0.0; x.len() * self.spec.streams];
        self.put(run.pool, &mut all, 0, x);
        for (i, map) in self.spread.iter().enumerate() {
            let mut made = Scratch::new(x.len());
            map.apply(run, &Activations::new(x, self.cols), Store::Set, &mut made);
            self.resize(run.pool, &mut made, x);
            self.put(run.pool, &mut all, i + 1, &made);
        }
        all
    }

    /// The mean of the streams, `[rows, embedding]`: the first as it is, each other one mapped back, as large.
    pub(super) fn gather(&self, run: Run<'_>, all: &[f32]) -> Vec<f32> {
        let first = stream(run.pool, all, self.spec.streams, 0, self.cols);
        let mut sum = first.to_vec();
        for (i, map) in self.gather.iter().enumerate() {
            let own = stream(run.pool, all, self.spec.streams, i + 1, self.cols);
            let mut made = Scratch::new(own.len());
            map.apply(run, &Activations::new(&own, self.cols), Store::Set, &mut made);
            self.resize(run.pool, &mut made, &first);
            sum.iter_mut().zip(made.iter()).for_each(|(sum, x)| *sum += x);
        }
        #[allow(clippy::cast_precision_loss, reason = "there are few")]
        let streams = self.spec.streams as f32;
        sum.iter_mut().for_each(|x| *x /= streams);
        sum
    }

    /// Brings each row of `x` to the size of the row of `like`.
    fn resize(&self, pool: &Pool, x: &mut [f32], like: &[f32]) {
        let cols = self.cols;
        for_rows(pool, x, cols, |i, row| {
            let factor =
                mean_square(&like[i * cols..(i + 1) * cols]).sqrt() / mean_square(row).max(LEAST_SQUARE).sqrt();
            row.iter_mut().for_each(|v| *v *= factor);
        });
    }

    /// Writes stream `index` of all rows.
    fn put(&self, pool: &Pool, all: &mut [f32], index: usize, x: &[f32]) {
        let cols = self.cols;
        for_rows(pool, all, self.spec.streams * cols, |i, row| {
            row[index * cols..(index + 1) * cols].copy_from_slice(&x[i * cols..(i + 1) * cols]);
        });
    }
}

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
fn mean_square(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32
}

/// Stream `index` of all rows, `[rows, embedding]`.
fn stream(pool: &Pool, all: &[f32], streams: usize, index: usize, cols: usize) -> Scratch {
    let mut out = Scratch::new(all.len() / streams);
    for_rows(pool, &mut out, cols, |i, row| {
        let start = (i * streams + index) * cols;
        row.copy_from_slice(&all[start..start + cols]);
    });
    out
}

/// What a layer has of its own.
pub(super) struct AltUpLayer {
    spec: AltUp,
    cols: usize,
    router: Linear,
    router_norm: Norm,
    predict: Linear,
    correct: Linear,
    scale: Option<Vec<f32>>,
}

impl AltUpLayer {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, spec: AltUp) -> Result<Self, Error> {
        let (cols, n) = (model.embedding_length, spec.streams);
        let name = |part: &str| format!("{prefix}altup_{part}");
        Ok(Self {
            spec,
            cols,
            router: Linear::load(w, &name("router"), n, cols)?,
            router_norm: Norm::load(w, &name("router_norm"), cols, model.norm)?,
            predict: Linear::load(w, &name("predict_coef"), n * n, n)?,
            correct: Linear::load(w, &name("correct_coef"), n, n)?,
            scale: w.vector(&format!("{}.weight", name("correct_scale")), cols)?,
        })
    }

    /// The active stream of all rows, `[rows, embedding]`.
    pub(super) fn active(&self, pool: &Pool, all: &[f32]) -> Scratch {
        stream(pool, all, self.spec.streams, self.spec.active, self.cols)
    }

    /// Adds to each stream its share of all of them, as the active one decides.
    pub(super) fn predict(&self, run: Run<'_>, all: &mut [f32]) {
        let (n, cols) = (self.spec.streams, self.cols);
        let modalities = self.modalities(run, &self.active(run.pool, all));
        let mut shares = Scratch::new(modalities.len() * n);
        self.predict.apply(run, &Activations::new(&modalities, n), Store::Set, &mut shares);
        for_rows(run.pool, all, n * cols, |i, row| {
            let old = Scratch::copy_of(row);
            for (stream, own) in row.chunks_exact_mut(cols).enumerate() {
                let shares = &shares[(i * n + stream) * n..(i * n + stream + 1) * n];
                for (other, share) in old.chunks_exact(cols).zip(shares) {
                    own.iter_mut().zip(other).for_each(|(own, x)| *own += share * x);
                }
            }
        });
    }

    /// Corrects all streams by what the layer has made of the active one, `made`, `[rows, embedding]`.
    pub(super) fn correct(&self, run: Run<'_>, all: &mut [f32], made: &[f32]) {
        let (n, cols, active) = (self.spec.streams, self.cols, self.spec.active);
        let modalities = self.modalities(run, made);
        let mut shares = Scratch::new(modalities.len());
        self.correct.apply(run, &Activations::new(&modalities, n), Store::Set, &mut shares);
        for_rows(run.pool, all, n * cols, |i, row| {
            let made = &made[i * cols..(i + 1) * cols];
            let old = &row[active * cols..(active + 1) * cols];
            let news: List<f32> = made.iter().zip(old).map(|(made, old)| made - old).collect();
            for (own, share) in row.chunks_exact_mut(cols).zip(&shares[i * n..]) {
                own.iter_mut().zip(news.iter()).for_each(|(own, x)| *own += (share + 1.0) * x);
            }
        });
    }

    /// The active stream as the input of the layer, `[rows, embedding]`.
    pub(super) fn scaled(&self, pool: &Pool, all: &[f32]) -> Scratch {
        let mut active = self.active(pool, all);
        if let Some(scale) = &self.scale {
            for_rows(pool, &mut active, self.cols, |_, row| row.iter_mut().zip(scale).for_each(|(x, s)| *x *= s));
        }
        active
    }

    /// Adds `x`, `[rows, embedding]`, to all streams but the first.
    pub(super) fn add_to_others(&self, pool: &Pool, all: &mut [f32], x: &[f32]) {
        let cols = self.cols;
        for_rows(pool, all, self.spec.streams * cols, |i, row| {
            for own in row.chunks_exact_mut(cols).skip(1) {
                own.iter_mut().zip(&x[i * cols..]).for_each(|(own, x)| *own += x);
            }
        });
    }

    /// `tanh(router(norm(x) / embedding))`, `[rows, streams]`.
    fn modalities(&self, run: Run<'_>, x: &[f32]) -> Scratch {
        let (n, cols) = (self.spec.streams, self.cols);
        #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
        let share = 1.0 / cols as f32;
        let mut input = Scratch::new(x.len());
        for_rows(run.pool, &mut input, cols, |i, row| {
            row.copy_from_slice(&x[i * cols..(i + 1) * cols]);
            self.router_norm.apply_row(row);
            row.iter_mut().for_each(|v| *v *= share);
        });
        let mut out = Scratch::new(x.len() / cols * n);
        self.router.apply(run, &Activations::new(&input, cols), Store::Set, &mut out);
        out.iter_mut().for_each(|v| *v = v.tanh());
        out
    }
}
