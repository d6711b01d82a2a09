//! A dense feed-forward part in parallel with a mixture of experts, each with norms of its own (Gemma 4).

use super::ffn::Ffn;
use super::moe::Moe;
use super::rows::copy_rows;
use super::{Norm, Run, Weights};
use crate::kernels::{Activations, Scratch, Store, vector};
use crate::network::{Dense, Error, Experts, ModelSpec};

/// Both parts with their weights.
pub(super) struct DenseAndExperts {
    dense: Ffn,
    dense_out: Norm,
    experts: Moe,
    experts_in: Norm,
    experts_out: Norm,
    /// The norm before the router.
    router_in: Norm,
    /// Factors of the router's inputs, already divided by the square root of the embedding length.
    router_scale: Vec<f32>,
}

impl DenseAndExperts {
    pub(super) fn load(
        w: &Weights,
        prefix: &str,
        model: &ModelSpec,
        dense: Dense,
        experts: &Experts,
    ) -> Result<Self, Error> {
        let cols = model.embedding_length;
        let norm = |name: &str| Norm::load(w, &format!("{prefix}{name}"), cols, model.norm);
        let mut router_scale = w.required_vector(&format!("{prefix}ffn_gate_inp.scale"), cols)?;
        #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
        router_scale.iter_mut().for_each(|scale| *scale /= (cols as f32).sqrt());
        Ok(Self {
            dense: Ffn::load(w, &format!("{prefix}ffn_"), "", cols, dense)?,
            dense_out: norm("post_ffw_norm_1")?,
            experts: Moe::load(w, prefix, cols, experts)?,
            experts_in: norm("pre_ffw_norm_2")?,
            experts_out: norm("post_ffw_norm_2")?,
            router_in: Norm::plain(cols, model.norm),
            router_scale,
        })
    }

    /// Sets `out` from the residual stream `x` and its normed copy `input`, all `[tokens, embedding]`.
    pub(super) fn apply(&self, run: Run<'_>, x: &[f32], input: &Activations<'_>, out: &mut [f32]) {
        let cols = self.router_scale.len();
        let tokens = x.len() / cols;
        let routed = copy_rows(run.pool, x, cols, |row| {
            self.router_in.apply_row(row);
            row.iter_mut().zip(&self.router_scale).for_each(|(v, scale)| *v *= scale);
        });
        let mut logits = self.experts.logits(run, &Activations::new(&routed, cols), tokens);
        let normed = copy_rows(run.pool, x, cols, |row| self.experts_in.apply_row(row));
        self.experts.apply_routed(run, &Activations::new(&normed, cols), &mut logits, out);
        self.experts_out.apply(run.pool, out);
        let mut own = Scratch::new(x.len());
        self.dense.apply(run, input, tokens, Store::Set, &mut own);
        self.dense_out.apply(run.pool, &mut own);
        vector::add(out, &own);
    }
}
