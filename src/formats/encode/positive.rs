//! The scale of a sub-block whose codes are not negative, as `scale_search::positive_scale` finds it: its first scales are tried side
//! by side, and a code is not divided for where a product shows that it stays.

use crate::formats::TINY;
use crate::formats::nearest;
use crate::formats::scale_search::{PASSES, TENTHS};
use crate::simd::LANES;
use crate::simd::lanes::Lanes;

/// Most elements.
const MOST: usize = 32;
/// A quotient closer than this to a code is certainly rounded to it, whatever the rounding errors of the comparison.
const NEAR: f32 = 0.4999;

/// The scale that fits best by weighted error.
#[inline(always)]
pub(super) fn scale<L: Lanes>(l: L, x: &[f32], weights: &[f32], top: i32) -> f32 {
    let mut max = 0.0f32;
    for &v in x {
        if max <= v {
            max = v;
        }
    }
    if max < TINY {
        return 0.0;
    }
    let inverse = first_inverse(l, x, weights, max, top);
    let (mut codes, mut sum_lx, mut sum_l2) = ([0u8; MOST], 0.0, 0.0);
    for ((code, &v), &w) in codes.iter_mut().zip(x).zip(weights) {
        let l = nearest(inverse * v).min(top);
        *code = l as u8;
        sum_lx += w * v * l as f32;
        sum_l2 += w * l as f32 * l as f32;
    }
    for _ in 0..PASSES {
        let mut changed = false;
        for ((code, &v), &w) in codes.iter_mut().zip(x).zip(weights) {
            let old = f32::from(*code);
            let mut lx = sum_lx - w * v * old;
            let mut l2 = sum_l2 - w * old * old;
            // The new code is `v * l2 / lx`, rounded. This is how far it is from the old one, times `lx`.
            let distance = v * l2 - old * lx;
            if distance.abs() < NEAR * lx {
                continue;
            }
            if lx > 0.0 && l2 > 0.0 {
                let new = nearest(v * l2 / lx).min(top);
                if new != i32::from(*code) {
                    lx += w * v * new as f32;
                    l2 += w * new as f32 * new as f32;
                    if lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                        *code = new as u8;
                        sum_lx = lx;
                        sum_l2 = l2;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// The inverse scale whose codes have the smallest error.
#[inline(always)]
fn first_inverse<L: Lanes>(l: L, x: &[f32], weights: &[f32], max: f32, top: i32) -> f32 {
    let mut inverses = [top as f32 / max; LANES];
    for (inverse, tenth) in inverses.iter_mut().zip(TENTHS) {
        *inverse = (0.1 * tenth + top as f32) / max;
    }
    let own = l.array(&inverses);
    let (scales, top_lane) = (l.div(l.splat(1.0), own), l.splat(top as f32));
    let mut errors = l.splat(0.0);
    // The codes of the first scale are bytes, as in the reference.
    let (first, mut best) = (top as f32 / max, 0.0);
    for (&v, &w) in x.iter().zip(weights) {
        let code = l.min(l.nearest(l.mul(own, l.splat(v))), top_lane);
        let difference = l.sub(l.splat(v), l.mul(scales, code));
        errors = l.add(errors, l.mul(l.mul(l.splat(w), difference), difference));
        let difference = v - 1.0 / first * f32::from(nearest(first * v) as u8);
        best += w * difference * difference;
    }
    let mut inverse = first;
    for (error, this) in l.to_array(errors).into_iter().zip(inverses).take(TENTHS.len()) {
        if error < best {
            best = error;
            inverse = this;
        }
    }
    inverse
}
