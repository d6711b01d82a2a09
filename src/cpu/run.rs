//! What a forward pass runs with: threads, whoever observes its products, and what changes the model's matrices.

use super::adapters::Adapters;
use crate::kernels::{Activations, Pool};

/// What a forward pass runs with.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The threads.
    pub pool: &'a Pool,
    /// Sees the input of every product with a tensor of the model.
    pub observer: Option<&'a dyn Observer>,
    /// Asked before each layer: the pass ends there when it says so. A pass that was stopped gives no rows, and its sequences are of
    /// no further use.
    pub stop: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Changes of the model's matrices.
    pub adapters: Option<&'a Adapters>,
}

/// Sees what goes into the products of a forward pass: what an importance matrix is made of.
pub trait Observer: Sync {
    /// Called before each product with the tensor `name` (`blk.0.attn_q.weight`), once for all rows of its input. Of a
    /// stack of matrices in one tensor (experts, heads), `index` is the matrix that the rows meet.
    fn product(&self, name: &str, index: Option<usize>, input: &Inputs<'_>);
}

/// The rows that go into a product.
pub struct Inputs<'a> {
    pub(super) x: &'a Activations<'a>,
    /// The rows that take part; all of them when `None`.
    pub(super) tokens: Option<&'a [u32]>,
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

impl<'a> Run<'a> {
    /// A run that nothing observes, of a model as it is.
    #[must_use]
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool, observer: None, stop: None, adapters: None }
    }
}
