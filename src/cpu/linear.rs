//! Products with named tensors: a matrix with an optional bias, and several of them in one parallel region.

use std::ops::Range;
use std::sync::Arc;

use super::Weights;
use super::adapters::Piece;
use super::rows::for_rows;
use super::run::{Inputs, Run};
use crate::kernels::{Activations, GatedProduct, List, Matrix, Product, Scratch, Store, gated, matmul};
use crate::network::{Activation, Error, Tensors};

/// `y = W x + b`.
#[derive(Clone)]
pub struct Linear {
    /// Name of the tensor that has the weight.
    name: Arc<str>,
    /// The index of the matrix, if the tensor is a stack of matrices (experts, heads).
    index: Option<usize>,
    /// The first row of the weight in its matrix. When several parts of one matrix have the same input, an observer is called for
    /// the one that begins with row 0.
    first_row: usize,
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Loads `name.weight` (`rows` outputs of `cols` inputs) and `name.bias` if it exists.
    ///
    /// # Errors
    /// When the weight is missing, or either has another shape.
    pub fn load(weights: &Weights, name: &str, rows: usize, cols: usize) -> Result<Self, Error> {
        let tensor = format!("{name}.weight");
        let weight = weights.matrix(&tensor, rows, cols)?;
        let bias = weights.vector(&format!("{name}.bias"), rows)?;
        Ok(Self { bias, ..Self::from_matrix(&tensor, weight) })
    }

    /// As [`Self::load`], or `None` if there is no such weight.
    ///
    /// # Errors
    /// When either has another shape.
    pub fn load_optional(weights: &Weights, name: &str, rows: usize, cols: usize) -> Result<Option<Self>, Error> {
        if weights.has(&format!("{name}.weight")) { Self::load(weights, name, rows, cols).map(Some) } else { Ok(None) }
    }

    /// The tensor `name` as a linear map without bias.
    #[must_use]
    pub fn from_matrix(name: &str, weight: Matrix) -> Self {
        Self { name: name.into(), index: None, first_row: 0, weight, bias: None }
    }

    /// The map to the outputs `rows` alone.
    #[must_use]
    pub fn rows_of(&self, rows: Range<usize>) -> Self {
        Self {
            name: self.name.clone(),
            index: self.index,
            first_row: self.first_row + rows.start,
            bias: self.bias.as_ref().map(|b| b[rows.clone()].to_vec()),
            weight: self.weight.slice_rows(rows),
        }
    }

    /// Matrix `index` of a tensor that is a stack of matrices of `rows` rows each.
    #[must_use]
    pub fn stacked(&self, index: usize, rows: usize) -> Self {
        Self { index: Some(index), first_row: 0, ..self.rows_of(index * rows..(index + 1) * rows) }
    }

    /// The tensor's name and the index of the matrix, if observers are called for this map.
    pub(super) fn observed_as(&self) -> Option<(&str, Option<usize>)> {
        (self.first_row == 0).then_some((&*self.name, self.index))
    }

    /// The description of the weight for adapters.
    fn piece(&self) -> Piece<'_> {
        Piece { tensor: &self.name, index: self.index, rows: self.first_row..self.first_row + self.rows() }
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

    /// This map over all rows, as a part of a parallel region.
    pub(super) fn projection<'a>(&'a self, store: Store, out: &'a mut [f32]) -> Projection<'a> {
        Projection { map: self, tokens: None, store, out }
    }

    /// This map as the gate of `up`, over all rows, as a part of a parallel region.
    pub(super) fn gated<'a>(&'a self, up: &'a Self, activation: Activation, out: &'a mut [f32]) -> GatedProjection<'a> {
        GatedProjection { gate: self, up, activation, tokens: None, out }
    }

    /// `out = W x + b` (or added to `out`), for every row of `x`.
    pub(super) fn apply(&self, run: Run<'_>, x: &Activations<'_>, store: Store, out: &mut [f32]) {
        self.apply_some(run, x, None, store, out);
    }

    /// As [`Self::apply`], for some rows of `x`, or for all.
    pub(super) fn apply_some(
        &self,
        run: Run<'_>,
        x: &Activations<'_>,
        rows: Option<&[u32]>,
        store: Store,
        out: &mut [f32],
    ) {
        run.project(x, &mut [Projection { tokens: rows, ..self.projection(store, out) }]);
    }
}

/// One linear map of a parallel region.
pub(super) struct Projection<'a> {
    pub(super) map: &'a Linear,
    /// The rows of the input that take part; all of them when `None`.
    pub(super) tokens: Option<&'a [u32]>,
    pub(super) store: Store,
    /// `[tokens, map.rows()]`.
    pub(super) out: &'a mut [f32],
}

/// One gated pair of linear maps of a parallel region: `act(gate(x)) * up(x)`.
pub(super) struct GatedProjection<'a> {
    pub(super) gate: &'a Linear,
    pub(super) up: &'a Linear,
    /// Of the gate.
    pub(super) activation: Activation,
    /// The rows of the input that take part; all of them when `None`.
    pub(super) tokens: Option<&'a [u32]>,
    /// `[tokens, up.rows()]`.
    pub(super) out: &'a mut [f32],
}

impl Run<'_> {
    /// All maps over the rows of `x`, in one parallel region.
    pub(super) fn project(&self, x: &Activations<'_>, projections: &mut [Projection<'_>]) {
        for Projection { map, tokens, .. } in projections.iter() {
            self.observe(map, x, *tokens);
        }
        let mut products: List<_> = projections
            .iter_mut()
            .map(|Projection { map, tokens, store, out }| Product {
                weights: map.weight(),
                bias: map.bias(),
                tokens: *tokens,
                store: *store,
                out,
            })
            .collect();
        matmul(self.pool, x, &mut products);
        drop(products);
        if let Some(adapters) = self.adapters {
            for Projection { map, tokens, out, .. } in projections.iter_mut() {
                adapters.add_to(self.pool, &map.piece(), x, *tokens, out);
            }
        }
    }

    /// All gated pairs over the rows of `x`, in one parallel region.
    pub(super) fn project_gated(&self, x: &Activations<'_>, projections: &mut [GatedProjection<'_>]) {
        if let Some(adapters) = self.adapters
            && projections.iter().any(|pair| adapters.change(&pair.gate.name) || adapters.change(&pair.up.name))
        {
            projections.iter_mut().for_each(|pair| self.project_apart(x, pair));
            return;
        }
        for GatedProjection { gate, up, tokens, .. } in projections.iter() {
            self.observe(gate, x, *tokens);
            self.observe(up, x, *tokens);
        }
        let mut products: List<_> = projections
            .iter_mut()
            .map(|GatedProjection { gate, up, activation, tokens, out }| GatedProduct {
                gate: gate.weight(),
                up: up.weight(),
                gate_bias: gate.bias(),
                up_bias: up.bias(),
                activation: *activation,
                tokens: *tokens,
                out,
            })
            .collect();
        gated(self.pool, x, &mut products);
    }

    /// A gated pair as two separate products, so that adapters can change both before the activation.
    fn project_apart(&self, x: &Activations<'_>, pair: &mut GatedProjection<'_>) {
        let GatedProjection { gate, up, activation, tokens, out } = pair;
        let cols = up.rows();
        let mut ups = Scratch::new(out.len());
        let gates = Projection { tokens: *tokens, ..gate.projection(Store::Set, out) };
        self.project(x, &mut [gates, Projection { tokens: *tokens, ..up.projection(Store::Set, &mut ups) }]);
        for_rows(self.pool, out, cols, |row, gates| activation.apply_gated(gates, &ups[row * cols..(row + 1) * cols]));
    }

    fn observe(&self, map: &Linear, x: &Activations<'_>, tokens: Option<&[u32]>) {
        if let Some(observer) = self.observer
            && let Some((name, index)) = map.observed_as()
        {
            observer.product(name, index, &Inputs { x, tokens });
        }
    }
}
