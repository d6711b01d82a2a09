//! A learned augmented residual (LAuReL): a low-rank map beside the mixer.

use super::{Linear, Norm, Run, Weights};
use crate::kernels::{Activations, Matrix, Scratch, Store, vector};
use crate::network::{Error, ModelSpec};

/// `x + norm(right(left(x)))`.
pub(super) struct Laurel {
    left: Linear,
    right: Linear,
    norm: Norm,
}

impl Laurel {
    /// Takes `laurel_l`, `laurel_r` and `laurel_post_norm`, when the first is there; its rows are the rank.
    ///
    /// # Errors
    /// When one of the others is missing, or one has another shape.
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec) -> Result<Option<Self>, Error> {
        let cols = model.embedding_length;
        let left = format!("{prefix}laurel_l");
        let Some(rank) = w.get(&format!("{left}.weight")).map(Matrix::rows) else { return Ok(None) };
        Ok(Some(Self {
            left: Linear::load(w, &left, rank, cols)?,
            right: Linear::load(w, &format!("{prefix}laurel_r"), cols, rank)?,
            norm: Norm::load(w, &format!("{prefix}laurel_post_norm"), cols, model.norm)?,
        }))
    }

    /// Joins `x`, the residual stream with the mixer's output, and what this makes of the mixer's `input`, both `[rows,
    /// embedding]`: their sum over the root of two.
    pub(super) fn join(&self, run: Run<'_>, input: &[f32], x: &mut [f32]) {
        let (cols, rank) = (self.right.rows(), self.left.rows());
        let mut low = Scratch::new(input.len() / cols * rank);
        self.left.apply(run, &Activations::new(input, cols), Store::Set, &mut low);
        let mut out = Scratch::new(input.len());
        self.right.apply(run, &Activations::new(&low, rank), Store::Set, &mut out);
        self.norm.apply(run.pool, &mut out);
        vector::add(x, input);
        vector::add(x, &out);
        x.iter_mut().for_each(|v| *v *= std::f32::consts::FRAC_1_SQRT_2);
    }
}
