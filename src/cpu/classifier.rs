//! A classification head with its weights.

use super::rows::for_rows;
use super::{Linear, Norm, Run, Weights};
use crate::kernels::{Activations, Store, vector};
use crate::network::{Activation, Classifier, Error, HeadFunction, ModelSpec, Tensors};

/// Scores of pooled hidden states.
pub(super) struct Head {
    spec: Classifier,
    dense: Option<Linear>,
    norm: Option<Norm>,
    output: Linear,
    cols: usize,
}

impl Head {
    /// Takes `cls.output` and, when they are there, `cls` and `cls.norm`.
    ///
    /// # Errors
    /// When one has another shape, or there is no output.
    pub(super) fn load(w: &Weights, model: &ModelSpec, spec: Classifier) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let dense = Linear::load_optional(w, "cls", cols, cols)?;
        let norm = w.has("cls.norm.weight").then(|| Norm::load(w, "cls.norm", cols, model.norm)).transpose()?;
        Ok(Self { spec, dense, norm, output: Linear::load(w, "cls.output", spec.scores, cols)?, cols })
    }

    /// What the head is.
    pub(super) fn spec(&self) -> &Classifier {
        &self.spec
    }

    /// The scores, `[rows, scores]`, of pooled hidden states, `[rows, embedding]`.
    pub(super) fn apply(&self, run: Run<'_>, pooled: &[f32]) -> Vec<f32> {
        let rows = pooled.len() / self.cols;
        let mut hidden = pooled.to_vec();
        if let Some(dense) = &self.dense {
            dense.apply(run, &Activations::new(pooled, self.cols), Store::Set, &mut hidden);
            for_rows(run.pool, &mut hidden, self.cols, |_, row| match self.spec.function {
                HeadFunction::Tanh => row.iter_mut().for_each(|x| *x = x.tanh()),
                HeadFunction::Gelu => Activation::GeluErf.apply(row),
            });
        }
        if let Some(norm) = &self.norm {
            norm.apply(run.pool, &mut hidden);
        }
        let mut scores = vec![0.0; rows * self.spec.scores];
        self.output.apply(run, &Activations::new(&hidden, self.cols), Store::Set, &mut scores);
        if self.spec.softmax {
            scores.chunks_exact_mut(self.spec.scores).for_each(vector::softmax);
        }
        scores
    }
}
