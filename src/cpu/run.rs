//! What a forward pass runs with, and the products of named tensors that all of its layers go through.

use super::Linear;
use crate::kernels::{Activations, GatedProduct, Pool, Product, Store, gated, matmul};
use crate::network::Activation;

/// What a forward pass runs with.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The threads.
    pub pool: &'a Pool,
    /// Sees the input of every product with a tensor of the model.
    pub observer: Option<&'a dyn Observer>,
}

/// Sees what goes into the products of a forward pass: what an importance matrix is made of.
pub trait Observer: Sync {
    /// Called before each product with the tensor `name` (`blk.0.attn_q.weight`), once for all rows of its input. Of a
    /// stack of matrices in one tensor (experts, heads), `index` is the matrix that the rows meet.
    fn product(&self, name: &str, index: Option<usize>, input: &Inputs<'_>);
}

/// The rows that go into a product.
pub struct Inputs<'a> {
    x: &'a Activations<'a>,
    tokens: Option<&'a [u32]>,
}

impl Inputs<'_> {
    /// Elements of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.x.cols()
    }

    /// The rows, each of [`Self::cols`] elements.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        let count = self.tokens.map_or(self.x.rows(), <[u32]>::len);
        (0..count).map(|i| self.x.row(self.tokens.map_or(i, |tokens| tokens[i] as usize)))
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

impl<'a> Run<'a> {
    /// A run that nothing observes.
    #[must_use]
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool, observer: None }
    }

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
