//! Q3_K: a scale that is refined code by code, for the sub-blocks of several super-blocks at a time.
//!
//! Most codes are already the best ones, which a comparison shows without the division that finds a better code. Where a code
//! changes, the next step depends on that division; several vectors of sub-blocks are interleaved to hide its latency.

use super::super_blocks::{greatest, put_symmetric, side_by_side};
use crate::formats::{SUPER_BLOCK, Symmetric, TINY};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Maximum passes over a sub-block.
const PASSES: usize = 5;
/// Maximum super-blocks at a time.
const MAX_GROUP: usize = 4;
/// A quotient closer than this to a code is certainly rounded to it, whatever the rounding errors of the comparison.
const NEAR: f32 = 0.4999;
/// Quotients up to this are certainly rounded correctly.
const FAR: f32 = 1_048_576.0;

/// Encodes super-blocks.
#[inline(always)]
pub(in crate::formats) fn encode<L: Lanes, F: Symmetric>(l: L, x: &[f32], out: &mut [u8]) {
    if L::WIDE {
        encode_groups::<L, F, MAX_GROUP>(l, x, out);
    } else {
        encode_groups::<L, F, 2>(l, x, out);
    }
}

/// Encodes `G` super-blocks at a time.
#[inline(always)]
fn encode_groups<L: Lanes, F: Symmetric, const G: usize>(l: L, x: &[f32], out: &mut [u8]) {
    let mut padded = [0.0; MAX_GROUP * SUPER_BLOCK];
    for (x, out) in x.chunks(G * SUPER_BLOCK).zip(out.chunks_mut(G * F::TY.block_bytes())) {
        // The last group may be short: the remaining lanes are zeros, whose results are not used.
        let lanes = if x.len() < G * SUPER_BLOCK {
            padded[..x.len()].copy_from_slice(x);
            &padded[..G * SUPER_BLOCK]
        } else {
            x
        };
        let mut columns = [[l.splat(0.0); LANES]; G];
        for (columns, x) in columns.iter_mut().zip(lanes.chunks_exact(SUPER_BLOCK)) {
            *columns = side_by_side(l, x);
        }
        let scales = scales(l, &columns, F::HALF as f32);
        let blocks = x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(F::TY.block_bytes()));
        for ((x, block), scale) in blocks.zip(scales) {
            put_symmetric::<L, F>(l, x, &l.to_array(scale), block);
        }
    }
}

/// An element of each lane.
#[derive(Clone, Copy)]
struct Element<L: Lanes> {
    x: L::Float,
    code: L::Float,
    /// Its part of the sums.
    sums: Sums<L>,
    /// How far below and above the code a quotient may be so that it is still rounded (or clamped) to it.
    below: L::Float,
    above: L::Float,
}

/// `sum(x^2 * x * code)` and `sum(x^2 * code * code)`.
#[derive(Clone, Copy)]
struct Sums<L: Lanes> {
    lx: L::Float,
    l2: L::Float,
}

/// The first and the last code.
#[derive(Clone, Copy)]
struct Bounds<L: Lanes> {
    low: L::Float,
    high: L::Float,
}

impl<L: Lanes> Bounds<L> {
    #[inline(always)]
    fn clamp(self, l: L, x: L::Float) -> L::Float {
        l.min(l.max(x, self.low), self.high)
    }

    #[inline(always)]
    fn element(self, l: L, x: L::Float, code: L::Float) -> Element<L> {
        let w = l.mul(x, x);
        let sums = Sums { lx: l.mul(l.mul(w, x), code), l2: l.mul(l.mul(w, code), code) };
        let below = l.select(l.lt(self.low, code), l.splat(-NEAR), l.splat(-FAR));
        let above = l.select(l.lt(code, self.high), l.splat(NEAR), l.splat(FAR));
        Element { x, code, sums, below, above }
    }
}

#[inline(always)]
fn scales<L: Lanes, const G: usize>(l: L, x: &[[L::Float; LANES]; G], half: f32) -> [L::Float; G] {
    let zero = l.splat(0.0);
    let bounds = Bounds::<L> { low: l.splat(-half), high: l.splat(half - 1.0) };
    let mut magnitudes = [zero; G];
    let mut elements = [[bounds.element(l, zero, zero); LANES]; G];
    let mut sums = [Sums::<L> { lx: zero, l2: zero }; G];
    for g in 0..G {
        let (magnitude, max) = greatest(l, &x[g]);
        magnitudes[g] = magnitude;
        let inverse = l.div(bounds.low, max);
        for i in 0..LANES {
            let code = bounds.clamp(l, l.nearest(l.mul(inverse, x[g][i])));
            let element = bounds.element(l, x[g][i], code);
            sums[g].lx = l.add(sums[g].lx, element.sums.lx);
            sums[g].l2 = l.add(sums[g].l2, element.sums.l2);
            elements[g][i] = element;
        }
    }
    for _ in 0..PASSES {
        let mut changed = 0;
        for i in 0..LANES {
            for g in 0..G {
                let (next, lanes) = refine(l, sums[g], &mut elements[g][i], bounds);
                sums[g] = next;
                changed |= lanes;
            }
        }
        // A lane that a pass does not change will not change in later passes.
        if changed == 0 {
            break;
        }
    }
    let mut scales = [zero; G];
    for g in 0..G {
        let fit = l.select(l.lt(zero, sums[g].l2), l.div(sums[g].lx, sums[g].l2), zero);
        scales[g] = l.select(l.lt(magnitudes[g], l.splat(TINY)), zero, fit);
    }
    scales
}

/// Recomputes the code of an element given all others. Returns the sums, and the lanes in which the code has changed.
#[inline(always)]
fn refine<L: Lanes>(l: L, sums: Sums<L>, element: &mut Element<L>, bounds: Bounds<L>) -> (Sums<L>, u16) {
    let zero = l.splat(0.0);
    let Element { x, code, .. } = *element;
    let lx = l.sub(sums.lx, element.sums.lx);
    let l2 = l.sub(sums.l2, element.sums.l2);
    let product = l.mul(x, l2);
    // The new code is `product / lx`, rounded. This is how far it is from the old one, times `lx`.
    let distance = l.sub(product, l.mul(code, lx));
    let same = l.both(l.lt(distance, l.mul(lx, element.above)), l.lt(l.mul(lx, element.below), distance));
    if l.mask_bits(l.lt(zero, lx)) & !l.mask_bits(same) == 0 {
        return (sums, 0);
    }
    let new = bounds.clamp(l, l.nearest(l.div(product, lx)));
    let change = l.sub(new, code);
    let other = l.both(l.lt(zero, lx), l.lt(zero, l.abs(change)));
    let part = bounds.element(l, x, new).sums;
    let (lx, l2) = (l.add(lx, part.lx), l.add(l2, part.l2));
    let before = l.mul(l.mul(sums.lx, sums.lx), l2);
    let after = l.mul(l.mul(lx, lx), sums.l2);
    let better = l.both(other, l.both(l.lt(zero, l2), l.lt(before, after)));
    let next = Sums { lx: l.select(better, lx, sums.lx), l2: l.select(better, l2, sums.l2) };
    // Not a selection of old and new elements: the compiler would store it with a mask, which is slow.
    *element = bounds.element(l, x, l.add(code, l.select(better, change, zero)));
    (next, l.mask_bits(better))
}
