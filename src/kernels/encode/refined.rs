//! Q3_K: a scale refined code by code, of the sub-blocks of several super-blocks at a time.
//!
//! Each step waits for the division of the step before; several vectors of sub-blocks keep the divider busy.

use super::super_blocks::{greatest, put_symmetric, side_by_side};
use crate::TensorType;
use crate::kernels::lanes::{LANES, Lanes};
use crate::quant::{SUPER_BLOCK, Symmetric, TINY};

/// Passes over a sub-block, the most.
const PASSES: usize = 5;
/// Super-blocks at a time, the most.
const MAX_GROUP: usize = 4;

/// Encodes super-blocks of `ty`.
#[inline(always)]
pub(super) fn encode<L: Lanes, F: Symmetric>(l: L, ty: TensorType, x: &[f32], out: &mut [u8]) {
    if L::WIDE {
        encode_groups::<L, F, MAX_GROUP>(l, ty, x, out);
    } else {
        encode_groups::<L, F, 2>(l, ty, x, out);
    }
}

/// Encodes `G` super-blocks at a time.
#[inline(always)]
fn encode_groups<L: Lanes, F: Symmetric, const G: usize>(l: L, ty: TensorType, x: &[f32], out: &mut [u8]) {
    let mut padded = [0.0; MAX_GROUP * SUPER_BLOCK];
    for (x, out) in x.chunks(G * SUPER_BLOCK).zip(out.chunks_mut(G * ty.block_bytes())) {
        // The last group may be short: lanes over zeros find nothing and disturb none.
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
        let blocks = x.chunks_exact(SUPER_BLOCK).zip(out.chunks_exact_mut(ty.block_bytes()));
        for ((x, block), scale) in blocks.zip(scales) {
            put_symmetric::<L, F>(l, x, &l.to_array(scale), block);
        }
    }
}

/// `sum(x^2 * x * code)` and `sum(x^2 * code * code)`.
#[derive(Clone, Copy)]
struct Sums<L: Lanes> {
    lx: L::Float,
    l2: L::Float,
}

#[inline(always)]
fn scales<L: Lanes, const G: usize>(l: L, x: &[[L::Float; LANES]; G], half: f32) -> [L::Float; G] {
    let zero = l.splat(0.0);
    let (low, high) = (l.splat(-half), l.splat(half - 1.0));
    let mut magnitudes = [zero; G];
    let mut codes = [[zero; LANES]; G];
    let mut sums = [Sums::<L> { lx: zero, l2: zero }; G];
    for g in 0..G {
        let (magnitude, max) = greatest(l, &x[g]);
        magnitudes[g] = magnitude;
        let inverse = l.div(low, max);
        for i in 0..LANES {
            let v = x[g][i];
            let code = l.min(l.max(l.nearest(l.mul(inverse, v)), low), high);
            let w = l.mul(v, v);
            sums[g].lx = l.add(sums[g].lx, l.mul(l.mul(w, v), code));
            sums[g].l2 = l.add(sums[g].l2, l.mul(l.mul(w, code), code));
            codes[g][i] = code;
        }
    }
    for _ in 0..PASSES {
        let mut changed = 0;
        for i in 0..LANES {
            for g in 0..G {
                let (next, code, lanes) = refine(l, sums[g], x[g][i], codes[g][i], (low, high));
                (sums[g], codes[g][i]) = (next, code);
                changed |= lanes;
            }
        }
        // A lane in which a pass changes nothing is the same in all passes after.
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

/// The code of `v` anew, given all the others: sums, code, and the lanes in which it is another.
#[inline(always)]
fn refine<L: Lanes>(
    l: L,
    sums: Sums<L>,
    v: L::Float,
    old: L::Float,
    (low, high): (L::Float, L::Float),
) -> (Sums<L>, L::Float, u16) {
    let zero = l.splat(0.0);
    let w = l.mul(v, v);
    let weighted = l.mul(w, v);
    let lx = l.sub(sums.lx, l.mul(weighted, old));
    let l2 = l.sub(sums.l2, l.mul(l.mul(w, old), old));
    let new = l.min(l.max(l.nearest(l.div(l.mul(v, l2), lx)), low), high);
    let change = l.sub(new, old);
    let other = l.both(l.lt(zero, lx), l.lt(zero, l.abs(change)));
    let lx = l.add(lx, l.mul(weighted, new));
    let l2 = l.add(l2, l.mul(l.mul(w, new), new));
    let before = l.mul(l.mul(sums.lx, sums.lx), l2);
    let after = l.mul(l.mul(lx, lx), sums.l2);
    let better = l.both(other, l.both(l.lt(zero, l2), l.lt(before, after)));
    let next = Sums { lx: l.select(better, lx, sums.lx), l2: l.select(better, l2, sums.l2) };
    // Not a choice of the old code, which would be stored by a mask, and slowly.
    (next, l.add(old, l.select(better, change, zero)), l.mask_bits(better))
}
