//! Products for few tokens, by the kind of view that the format of the weights has. Each format has a kernel of its own.

#![allow(unsafe_code, reason = "decoded floats are read as bytes")]

use std::marker::PhantomData;
use std::ops::Range;

use super::few::{BlockRows, LongBlockRows, RowsProduct, SuperBlockRows};
use super::floats::FloatRows;
use crate::formats::view::{BlockFormat, FloatFormat, LongBlockFormat, SuperBlockFormat, ViewVisitor};
use crate::formats::{self, Format};
use crate::kernels::scratch::Scratch;
use crate::simd::Isa;

/// Computes `product`.
pub(super) fn multiply(isa: Isa, product: RowsProduct<'_>) {
    formats::view(product.weights.ty(), OnIsa { isa, product });
}

/// A product on an instruction set.
struct OnIsa<'a> {
    isa: Isa,
    product: RowsProduct<'a>,
}

impl ViewVisitor for OnIsa<'_> {
    type Output = ();

    fn super_blocks<F: SuperBlockFormat>(self) {
        self.isa.run(SuperBlockRows::<F>(self.product, PhantomData));
    }

    fn blocks<F: BlockFormat>(self) {
        self.isa.run(BlockRows::<F>(self.product, PhantomData));
    }

    fn long_blocks<F: LongBlockFormat>(self) {
        self.isa.run(LongBlockRows::<F>(self.product, PhantomData));
    }

    fn floats<F: FloatFormat>(self) {
        let RowsProduct { weights, rows: Range { start, end }, .. } = &self.product;
        let bytes = &weights.bytes()[start * weights.row_bytes()..end * weights.row_bytes()];
        self.isa.run(FloatRows::<F>::new(self.product, bytes));
    }

    /// A type without a kernel of its own: rows are decoded to floats first.
    fn decoded<F: Format>(self) {
        let RowsProduct { weights, rows, .. } = &self.product;
        let cols = weights.cols();
        let mut decoded = Scratch::<f32>::new(rows.len() * cols);
        for (r, row) in rows.clone().zip(decoded.chunks_exact_mut(cols)) {
            weights.decode_row(r, row);
        }
        // SAFETY: floats are bytes of any value.
        let bytes = unsafe { std::slice::from_raw_parts(decoded.as_ptr().cast(), size_of_val(&*decoded)) };
        self.isa.run(FloatRows::<formats::F32>::new(self.product, bytes));
    }
}
