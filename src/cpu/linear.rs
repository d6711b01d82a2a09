//! Products with named tensors: a matrix with an optional bias, and several of them in one parallel region.

use std::ops::Range;
use std::sync::Arc;

use super::Weights;
use super::run::{Inputs, Run};
use crate::kernels::{Activations, GatedProduct, Matrix, Product, Store, gated, matmul};
use crate::network::{Activation, Error, Tensors};

/// `y = W x + b`.
#[derive(Clone)]
pub struct Linear {
    /// Name of the tensor that the weight is, or is a part of.
    name: Arc<str>,
    /// Which matrix of the tensor, where it is a stack of them (experts, heads).
    index: Option<usize>,
    /// Whether the weight begins where its matrix does: of several parts of one matrix, which meet the same input, an
    /// observer sees the first.
    first: bool,
    weight: Matrix,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// Takes `name.weight` (`rows` outputs of `cols` inputs) and, when there, `name.bias`.
    ///
    /// # Errors
    /// When the weight is missing, or either has another shape.
    pub fn load(weights: &Weights, name: &str, rows: usize, cols: usize) -> Result<Self, Error> {
        let tensor = format!("{name}.weight");
        let weight = weights.matrix(&tensor, rows, cols)?;
        let bias = weights.vector(&format!("{name}.bias"), rows)?;
        Ok(Self { bias, ..Self::from_matrix(&tensor, weight) })
    }

    /// As [`Self::load`], when the weight is there.
    ///
    /// # Errors
    /// When either has another shape.
    pub fn load_optional(weights: &Weights, name: &str, rows: usize, cols: usize) -> Result<Option<Self>, Error> {
        if weights.has(&format!("{name}.weight")) { Self::load(weights, name, rows, cols).map(Some) } else { Ok(None) }
    }

    /// The tensor `name` as a linear map without bias.
    #[must_use]
    pub fn from_matrix(name: &str, weight: Matrix) -> Self {
        Self { name: name.into(), index: None, first: true, weight, bias: None }
    }

    /// The map to some of the outputs.
    #[must_use]
    pub fn rows_of(&self, rows: Range<usize>) -> Self {
        Self {
            name: self.name.clone(),
            index: self.index,
            first: self.first && rows.start == 0,
            bias: self.bias.as_ref().map(|b| b[rows.clone()].to_vec()),
            weight: self.weight.slice_rows(rows),
        }
    }

    /// Matrix `index` of a tensor that is a stack of matrices of `rows` rows each.
    #[must_use]
    pub fn stacked(&self, index: usize, rows: usize) -> Self {
        Self { index: Some(index), first: true, ..self.rows_of(index * rows..(index + 1) * rows) }
    }

    /// The tensor's name and the matrix's place in it, where an observer is to see the map's input.
    pub(super) fn observed_as(&self) -> Option<(&str, Option<usize>)> {
        self.first.then_some((&*self.name, self.index))
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
        let mut products: Vec<_> = projections
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
    }

    /// All gated pairs over the rows of `x`, in one parallel region.
    pub(super) fn project_gated(&self, x: &Activations<'_>, projections: &mut [GatedProjection<'_>]) {
        for GatedProjection { gate, up, tokens, .. } in projections.iter() {
            self.observe(gate, x, *tokens);
            self.observe(up, x, *tokens);
        }
        let mut products: Vec<_> = projections
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

    fn observe(&self, map: &Linear, x: &Activations<'_>, tokens: Option<&[u32]>) {
        if let Some(observer) = self.observer
            && let Some((name, index)) = map.observed_as()
        {
            observer.product(name, index, &Inputs { x, tokens });
        }
    }
}
