//! A matrix with an optional bias.

use std::ops::Range;

use super::Weights;
use crate::kernels::{Activations, GatedProduct, Matrix, Pool, Product, Store, matmul};
use crate::network::{Activation, Error, Tensors};

/// `y = W x + b`.
#[derive(Clone)]
pub struct Linear {
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Takes `name.weight` (`rows` outputs of `cols` inputs) and, when there, `name.bias`.
    ///
    /// # Errors
    /// When the weight is missing, or either has another shape.
    pub fn load(weights: &Weights, name: &str, rows: usize, cols: usize) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.matrix(&format!("{name}.weight"), rows, cols)?,
            bias: weights.vector(&format!("{name}.bias"), rows)?,
        })
    }

    /// As [`Self::load`], when the weight is there.
    ///
    /// # Errors
    /// When either has another shape.
    pub fn load_optional(weights: &Weights, name: &str, rows: usize, cols: usize) -> Result<Option<Self>, Error> {
        if weights.has(&format!("{name}.weight")) { Self::load(weights, name, rows, cols).map(Some) } else { Ok(None) }
    }

    /// A linear map without bias.
    #[must_use]
    pub fn from_matrix(weight: Matrix) -> Self {
        Self { weight, bias: None }
    }

    /// The map to some of the outputs.
    #[must_use]
    pub fn rows_of(&self, rows: Range<usize>) -> Self {
        Self { bias: self.bias.as_ref().map(|b| b[rows.clone()].to_vec()), weight: self.weight.slice_rows(rows) }
    }

    /// Length of an output row.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.weight.rows()
    }

    /// The matrix.
    #[must_use]
    pub fn weight(&self) -> &Matrix {
        &self.weight
    }

    /// The bias.
    #[must_use]
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// This map over all rows, as one product of a parallel region.
    pub fn product<'a>(&'a self, store: Store, out: &'a mut [f32]) -> Product<'a> {
        Product { weights: &self.weight, bias: self.bias(), tokens: None, store, out }
    }

    /// This map as the gate of `up`, over all rows, as one product of a parallel region.
    pub fn gated<'a>(&'a self, up: &'a Self, activation: Activation, out: &'a mut [f32]) -> GatedProduct<'a> {
        GatedProduct {
            gate: &self.weight,
            up: &up.weight,
            gate_bias: self.bias(),
            up_bias: up.bias(),
            activation,
            tokens: None,
            out,
        }
    }

    /// `out = W x + b` (or added to `out`), for every row of `x`.
    pub fn apply(&self, pool: &Pool, x: &Activations<'_>, store: Store, out: &mut [f32]) {
        self.apply_some(pool, x, None, store, out);
    }

    /// As [`Self::apply`], for some rows of `x`, or for all.
    pub fn apply_some(&self, pool: &Pool, x: &Activations<'_>, rows: Option<&[u32]>, store: Store, out: &mut [f32]) {
        matmul(pool, x, &mut [Product { tokens: rows, ..self.product(store, out) }]);
    }
}
