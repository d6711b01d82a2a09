//! The context of a forward pass: threads, an observer of products, and adapters.

use super::adapters::Adapters;
use crate::kernels::{Activations, Pool};

/// The context of a forward pass.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// The threads.
    pub pool: &'a Pool,
    /// Called with the input of every product with a tensor of the model.
    pub observer: Option<&'a dyn Observer>,
    /// Called before each layer; the pass ends there if it returns true. A pass that was stopped returns no rows, and its sequences
    /// must not be used any more.
    pub stop: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Low-rank changes of the model's matrices.
    pub adapters: Option<&'a Adapters>,
}

/// Sees the inputs of the products of a forward pass. Importance matrices are collected this way.
pub trait Observer: Sync {
    /// Called before each product with the tensor `name` (`blk.0.attn_q.weight`), once for all rows of its input. If the tensor is
    /// a stack of matrices (experts, heads), `index` is the matrix that the rows are multiplied with.
    fn product(&self, name: &str, index: Option<usize>, input: &Inputs<'_>);
}

/// The input rows of a product.
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
    /// A run without observer and adapters.
    #[must_use]
    pub fn new(pool: &'a Pool) -> Self {
        Self { pool, observer: None, stop: None, adapters: None }
    }
}
