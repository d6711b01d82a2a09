//! Low-rank changes of a model's matrices (LoRA): `W x` becomes `W x + scale * B (A x)`. The weights stay as they are.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::kernels::{Activations, Matrix, Pool, Product, Scratch, Store, matmul};

/// Changes of matrices, by the names of their tensors.
#[derive(Clone, Default)]
pub struct Adapters {
    changes: BTreeMap<String, Vec<LowRank>>,
}

/// The change of one tensor, which is a matrix or a stack of matrices (experts).
#[derive(Clone)]
pub struct LowRank {
    /// `A` of each matrix of the stack: `[matrices * rank, cols]`.
    a: Matrix,
    /// `B` of each matrix of the stack: `[matrices * rows, rank]`.
    b: Matrix,
    matrices: usize,
    scale: f32,
}

/// The weights of a product: some rows of a matrix of a tensor.
pub(super) struct Piece<'a> {
    /// The tensor's name.
    pub(super) tensor: &'a str,
    /// The index of the matrix, if the tensor is a stack of matrices.
    pub(super) index: Option<usize>,
    /// The rows of that matrix.
    pub(super) rows: Range<usize>,
}

impl Adapters {
    /// Adds a change of the tensor `name`, which is a stack of `matrices` matrices: `a` is `[matrices * rank, cols]`, `b` is
    /// `[matrices * rows, rank]`.
    ///
    /// # Panics
    /// When these shapes do not fit each other.
    pub fn add(&mut self, name: &str, a: Matrix, b: Matrix, matrices: usize, scale: f32) {
        assert!(
            matrices > 0 && a.rows() == b.cols() * matrices && b.rows().is_multiple_of(matrices),
            "shapes of {name}"
        );
        self.changes.entry(name.to_owned()).or_default().push(LowRank { a, b, matrices, scale });
    }

    /// Adds the changes of `other`.
    pub fn extend(&mut self, other: Self) {
        for (name, changes) in other.changes {
            self.changes.entry(name).or_default().extend(changes);
        }
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Calls `visit` with the bytes of all names, factors and matrices, for a fingerprint of the adapters.
    pub fn visit_bytes(&self, visit: &mut dyn FnMut(&[u8])) {
        for (name, changes) in &self.changes {
            visit(name.as_bytes());
            for LowRank { a, b, scale, .. } in changes {
                visit(&scale.to_le_bytes());
                visit(a.bytes());
                visit(b.bytes());
            }
        }
    }

    /// Whether the tensor `name` is changed.
    pub(super) fn change(&self, name: &str) -> bool {
        self.changes.contains_key(name)
    }

    /// Adds the change of the products of the rows `tokens` of `x` (all rows when `None`) to `out`,
    /// `[tokens, rows of the piece]`.
    pub(super) fn add_to(
        &self,
        pool: &Pool,
        piece: &Piece<'_>,
        x: &Activations<'_>,
        tokens: Option<&[u32]>,
        out: &mut [f32],
    ) {
        for change in self.changes.get(piece.tensor).into_iter().flatten() {
            change.add_to(pool, piece, x, tokens, out);
        }
    }
}

impl LowRank {
    fn add_to(&self, pool: &Pool, piece: &Piece<'_>, x: &Activations<'_>, tokens: Option<&[u32]>, out: &mut [f32]) {
        let (rank, rows) = (self.b.cols(), self.b.rows() / self.matrices);
        let matrix = piece.index.unwrap_or(0);
        let a = self.a.slice_rows(matrix * rank..(matrix + 1) * rank);
        let b = self.b.slice_rows(matrix * rows + piece.rows.start..matrix * rows + piece.rows.end);
        let mut inner = Scratch::new(tokens.map_or(x.rows(), <[u32]>::len) * rank);
        let product = Product { weights: &a, bias: None, tokens, store: Store::Set, out: &mut inner };
        matmul(pool, x, &mut [product]);
        inner.iter_mut().for_each(|v| *v *= self.scale);
        let product = Product { weights: &b, bias: None, tokens: None, store: Store::Add, out };
        matmul(pool, &Activations::new(&inner, rank), &mut [product]);
    }
}
