//! Products of rows of long blocks with few tokens: sixteen rows side by side, 64 elements at a time.

use std::marker::PhantomData;

use super::{RowGroup, RowsProduct, TOKENS};
use crate::formats::view::{LongBlockFormat, LongBlockShape, PART};
use crate::kernels::product::input::{Input, Quantized};
use crate::kernels::scratch::List;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes};

/// A product with rows of long blocks.
pub(in crate::kernels::product) struct LongBlockRows<'a, F>(
    pub(in crate::kernels::product) RowsProduct<'a>,
    pub(in crate::kernels::product) PhantomData<F>,
);

impl<F: LongBlockFormat> Kernel for LongBlockRows<'_, F> {
    type Output = ();
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let (count, tokens) = (self.0.tokens.len(), if L::TILES { TOKENS } else { 1 });
        for token in (0..count).step_by(tokens) {
            if L::TILES && count - token >= TOKENS {
                self.products_of::<L, TOKENS>(l, token);
            } else {
                self.products_of::<L, 1>(l, token);
            }
        }
    }
}

impl<F: LongBlockFormat> LongBlockRows<'_, F> {
    /// All rows, for `T` tokens from `token` on.
    #[inline(always)]
    fn products_of<L: Lanes, const T: usize>(&mut self, l: L, token: usize) {
        let product = &mut self.0;
        let parts = product.weights.cols() / PART;
        let x = product.x.prepared(Input::LongBlocks);
        let first_parts: [usize; T] = std::array::from_fn(|t| product.tokens.row(token + t) * parts);
        let inputs = part_inputs::<L, F, T>(l, x, first_parts, parts);
        for first in product.rows.clone().step_by(LANES) {
            let rows = product.row_group(l, first);
            let mut sums = [l.splat(0.0); T];
            for (b, inputs) in inputs.chunks_exact(F::PARTS * T).enumerate() {
                // SAFETY: a row has so many blocks.
                unsafe { add_block::<L, F, T>(l, &rows, b, inputs, &mut sums) };
            }
            product.put_lanes(l, first, token, &sums);
        }
    }
}

/// One token's input for a part of a block.
struct PartInput<L: Lanes> {
    codes: L::Int,
    /// The initial value of the sums: for each 16 codes, minus the zero code times their sum.
    start: L::Int,
    /// A scale for each 32 elements.
    scales: [f32; 2],
}

/// The input of all parts for `T` tokens.
#[inline(always)]
fn part_inputs<L: Lanes, F: LongBlockFormat, const T: usize>(
    l: L,
    x: &Quantized,
    first_parts: [usize; T],
    parts: usize,
) -> List<PartInput<L>> {
    let (codes, sums) = (x.codes.as_chunks::<PART>().0, x.sums.as_chunks::<4>().0);
    let scales = x.scales.as_chunks::<2>().0;
    let mut inputs = List::with_capacity(parts * T);
    for part in 0..parts {
        for first in first_parts {
            let mut start = [0; LANES];
            for (start, sum) in start.iter_mut().step_by(4).zip(sums[first + part]) {
                *start = -i32::from(F::Shape::ZERO * sum);
            }
            // SAFETY: a part has 64 codes, and the array holds 16 integers.
            let (codes, start) =
                unsafe { (l.load_int(codes[first + part].as_ptr().cast()), l.load_int(start.as_ptr())) };
            inputs.push(PartInput { codes, start, scales: scales[first + part] });
        }
    }
    inputs
}

/// Adds the products of block `b` of sixteen rows with `T` tokens to `sums`.
///
/// # Safety
/// The rows must have this block.
#[inline(always)]
unsafe fn add_block<L: Lanes, F: LongBlockFormat, const T: usize>(
    l: L,
    rows: &RowGroup<'_>,
    b: usize,
    inputs: &[PartInput<L>],
    sums: &mut [L::Float; T],
) {
    let mut places = [std::ptr::null(); LANES];
    for (i, place) in places.iter_mut().enumerate() {
        rows.fetch_next(l, i, b, F::BYTES);
        // SAFETY: the caller vouches for the block.
        *place = unsafe { rows.block(i, b, F::BYTES) }.as_ptr();
    }
    // SAFETY: blocks have four bytes.
    let factors = F::factors(l, unsafe { l.words_at(&places) });
    for (part, inputs) in inputs.as_chunks::<T>().0.iter().enumerate() {
        let mut products = [[l.splat_int(0); LANES]; T];
        for i in 0..LANES {
            // SAFETY: the caller vouches for the block.
            let w = F::codes(l, unsafe { rows.block(i, b, F::BYTES) }, part);
            for t in 0..T {
                products[t][i] = l.dot_bytes::<false>(inputs[t].start, w, inputs[t].codes);
            }
        }
        for t in 0..T {
            let scales = inputs[t].scales.map(|scale| l.splat(scale));
            if F::Shape::SCALES_OF_16 {
                let quarters = l.sum_quarters_each(&products[t]);
                for (half, scale) in scales.into_iter().enumerate() {
                    let products = [quarters[2 * half], quarters[2 * half + 1]];
                    sums[t] = add_two::<L>(l, sums[t], products, [factors[2 * half], factors[2 * half + 1]], scale);
                }
            } else {
                for (products, scale) in l.sum_halves_each(&products[t]).into_iter().zip(scales) {
                    sums[t] = l.mul_add(l.mul(factors[0], scale), l.int_to_float(products), sums[t]);
                }
            }
        }
    }
}

/// `sum` plus `scale` times the products of twice 16 elements, each with its own factor.
#[inline(always)]
pub(in crate::kernels::product) fn add_two<L: Lanes>(
    l: L,
    sum: L::Float,
    products: [L::Int; 2],
    factors: [L::Float; 2],
    scale: L::Float,
) -> L::Float {
    let first = l.mul(factors[0], l.int_to_float(products[0]));
    l.mul_add(l.mul_add(factors[1], l.int_to_float(products[1]), first), scale, sum)
}
