//! The searches for a sub-block's scale that the K formats share.

use super::nearest;

/// A block with only smaller magnitudes is encoded as zeros.
pub(crate) const TINY: f32 = 1e-15;

/// Most passes of [`positive_scale`].
pub(super) const PASSES: usize = 5;
/// Other scales that [`positive_scale`] tries first are these tenths of a code away.
pub(super) const TENTHS: [f32; 8] = [-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0];

/// Parameters of [`scale_and_min`].
pub(crate) struct Search {
    /// Highest code.
    pub top: i32,
    /// The first trial's `top` is shifted by this.
    pub first: f32,
    /// Each trial adds this.
    pub step: f32,
    /// Trials after the first.
    pub trials: i32,
    /// Weigh the absolute error, not its square.
    pub absolute: bool,
}

impl Search {
    fn error(&self, difference: f32) -> f32 {
        if self.absolute { difference.abs() } else { difference * difference }
    }

    fn code(&self, inverse: f32, x: f32, min: f32) -> i32 {
        nearest(inverse * (x - min)).clamp(0, self.top)
    }
}

/// Scale and (negated) min of the grid `scale * code - min` that fits `x` best by weighted error, with its codes.
/// (`make_qkx2_quants`.)
pub(super) fn scale_and_min<const N: usize>(
    x: &[f32],
    weights: &[f32; N],
    codes: &mut [u8],
    search: &Search,
) -> (f32, f32) {
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x = sum_w * x[0];
    for i in 1..N {
        if x[i] < min {
            min = x[i];
        }
        if x[i] > max {
            max = x[i];
        }
        sum_w += weights[i];
        sum_x += weights[i] * x[i];
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max == min {
        codes.fill(0);
        return (0.0, -min);
    }
    let top = search.top as f32;
    let inverse = top / (max - min);
    let mut scale = 1.0 / inverse;
    let mut best_error = 0.0;
    for i in 0..N {
        let code = search.code(inverse, x[i], min);
        codes[i] = code as u8;
        best_error += weights[i] * search.error(scale * code as f32 + min - x[i]);
    }
    // `min` is that of the best trial so far: each trial starts from it, as the reference's do.
    let mut trial_codes = [0; N];
    for trial in 0..=search.trials {
        let inverse = (search.first + search.step * trial as f32 + top) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for i in 0..N {
            let code = search.code(inverse, x[i], min);
            trial_codes[i] = code;
            let (w, l) = (weights[i], code as f32);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x[i];
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let mut error = 0.0;
            for i in 0..N {
                error += weights[i] * search.error(this_scale * trial_codes[i] as f32 + this_min - x[i]);
            }
            if error < best_error {
                for (code, trial) in codes.iter_mut().zip(trial_codes) {
                    *code = trial as u8;
                }
                best_error = error;
                scale = this_scale;
                min = this_min;
            }
        }
    }
    (scale, -min)
}

/// Parameters of [`scale_and_min`] for elements with importance. (`make_qkx3_quants`.)
pub(crate) const fn weighted(top: i32) -> Search {
    Search { top, first: -0.9, step: 0.05, trials: 36, absolute: false }
}

/// Scale of the grid `scale * code` that fits `x` best by weighted error, with its codes. `x` should not be negative; codes of
/// negative numbers wrap, as in the reference. (`make_qp_quants`.)
pub(super) fn positive_scale(x: &[f32], weights: &[f32], top: i32, codes: &mut [u8]) -> f32 {
    let mut max = 0.0f32;
    for &v in x {
        if max <= v {
            max = v;
        }
    }
    if max < TINY {
        codes.fill(0);
        return 0.0;
    }
    let error = |inverse: f32, scale: f32, code: fn(i32, i32) -> i32| {
        let mut sum = 0.0;
        for (&v, &w) in x.iter().zip(weights) {
            let difference = v - scale * code(nearest(inverse * v), top) as f32;
            sum += w * difference * difference;
        }
        sum
    };
    let mut inverse = top as f32 / max;
    // The first error is computed with codes as bytes, as in the reference.
    let mut best = error(inverse, 1.0 / inverse, |code, _| i32::from(code as u8));
    for tenth in TENTHS {
        let this = (0.1 * tenth + top as f32) / max;
        let error = error(this, 1.0 / this, i32::min);
        if error < best {
            best = error;
            inverse = this;
        }
    }
    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
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

/// The first element of greatest magnitude, as (magnitude, element).
fn greatest(x: &[f32]) -> (f32, f32) {
    let mut found = (0.0f32, 0.0f32);
    for &v in x {
        if v.abs() > found.0 {
            found = (v.abs(), v);
        }
    }
    found
}

/// Scale of the grid `scale * (code - half)` that fits `x` best by weighted error, with its codes. (`make_qx_quants`
/// with `rmse_type` 1, whose weights are the squares unless others are given.)
pub(super) fn symmetric_scale(x: &[f32], weights: &[f32], half: i32, codes: &mut [u8]) -> f32 {
    let (magnitude, max) = greatest(x);
    if magnitude < TINY {
        codes.fill(0);
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
        for (&v, &w) in x.iter().zip(weights) {
            let l = nearest(inverse * v).clamp(-half, half - 1) as f32;
            sum_lx += w * v * l;
            sum_l2 += w * l * l;
        }
        (sum_lx, sum_l2)
    };
    let mut best_inverse = -half as f32 / max;
    let (sum_lx, sum_l2) = sums(best_inverse);
    let mut scale = if sum_l2 == 0.0 { 0.0 } else { sum_lx / sum_l2 };
    let mut best = scale * sum_lx;
    for trial in (-9..=9).filter(|&trial| trial != 0) {
        let inverse = -(half as f32 + 0.1 * trial as f32) / max;
        let (sum_lx, sum_l2) = sums(inverse);
        if sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2 {
            best_inverse = inverse;
            scale = sum_lx / sum_l2;
            best = scale * sum_lx;
        }
    }
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = (half + nearest(best_inverse * v).clamp(-half, half - 1)) as u8;
    }
    scale
}

/// Scale of the grid `scale * (code - half)` for `x`, refined code by code, with its codes. (`make_q3_quants` with
/// `do_rmse`.)
pub(super) fn refined_scale<const N: usize>(x: &[f32], half: i32, codes: &mut [u8]) -> f32 {
    let (magnitude, max) = greatest(x);
    if magnitude < TINY {
        codes.fill(0);
        return 0.0;
    }
    let inverse = -half as f32 / max;
    let mut signed = [0i32; N];
    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
    for (l, &v) in signed.iter_mut().zip(x) {
        *l = nearest(inverse * v).clamp(-half, half - 1);
        let w = v * v;
        sum_lx += w * v * *l as f32;
        sum_l2 += w * *l as f32 * *l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (l, &v) in signed.iter_mut().zip(x) {
            let w = v * v;
            let old = *l as f32;
            let mut lx = sum_lx - w * v * old;
            if lx > 0.0 {
                let mut l2 = sum_l2 - w * old * old;
                let new = nearest(v * l2 / lx).clamp(-half, half - 1);
                if new != *l {
                    lx += w * v * new as f32;
                    l2 += w * new as f32 * new as f32;
                    if l2 > 0.0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                        *l = new;
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
    for (code, l) in codes.iter_mut().zip(signed) {
        *code = (l + half) as u8;
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}
