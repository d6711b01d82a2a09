//! Functions of whole rows: norms, softmax, sums. Each sum is sixteen partial sums that a tree of additions combines, on
//! every instruction set.

use crate::simd::Isa;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes, exp2, tree_sum};

/// `x += y`.
///
/// # Panics
/// If lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len());
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `x += y * scale`, product and sum rounded one after the other.
///
/// # Panics
/// If lengths differ.
pub fn add_scaled(x: &mut [f32], y: &[f32], scale: f32) {
    assert_eq!(x.len(), y.len());
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y * scale);
}

/// `x = x / sqrt(mean(x^2) + epsilon) * weight`; without weight where that is `None`.
///
/// # Panics
/// If lengths differ.
pub fn rms_norm(x: &mut [f32], weight: Option<&[f32]>, epsilon: f32) {
    let mean = Isa::active().run(Sum { x, offset: 0.0, squares: true }) / x.len() as f32;
    scale(x, 0.0, 1.0 / (mean + epsilon).sqrt(), weight, None);
}

/// `x = (x - mean) / sqrt(variance + epsilon) * weight + bias`.
///
/// # Panics
/// If lengths differ.
pub fn layer_norm(x: &mut [f32], weight: Option<&[f32]>, bias: Option<&[f32]>, epsilon: f32) {
    let mean = Isa::active().run(Sum { x, offset: 0.0, squares: false }) / x.len() as f32;
    let variance = Isa::active().run(Sum { x, offset: mean, squares: true }) / x.len() as f32;
    scale(x, mean, 1.0 / (variance + epsilon).sqrt(), weight, bias);
}

/// `x = x / |x|`, or as it is where `|x|` is below `epsilon`.
pub fn l2_norm(x: &mut [f32], epsilon: f32) {
    let length = Isa::active().run(Sum { x, offset: 0.0, squares: true }).sqrt();
    let inverse = 1.0 / length.max(epsilon);
    x.iter_mut().for_each(|v| *v *= inverse);
}

/// `x = e^x / sum(e^x)`.
pub fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in &mut *x {
        *v = (*v - max).exp();
        sum += *v;
    }
    let inverse = 1.0 / sum;
    x.iter_mut().for_each(|v| *v *= inverse);
}

/// `ln(sum(e^x))`.
#[must_use]
pub fn log_sum_exp(x: &[f32]) -> f64 {
    let max = Isa::active().run(Max { x });
    let parts = x.chunks(BLOCK).map(|x| f64::from(Isa::active().run(ExpSum { x, max })));
    f64::from(max) + parts.sum::<f64>().ln()
}

/// Number of elements whose sum is computed in `f32`; sums of more elements are computed in `f64` from these.
const BLOCK: usize = 64 * LANES;

fn scale(x: &mut [f32], offset: f32, factor: f32, weight: Option<&[f32]>, bias: Option<&[f32]>) {
    x.iter_mut().for_each(|v| *v = (*v - offset) * factor);
    if let Some(weight) = weight {
        assert_eq!(x.len(), weight.len());
        x.iter_mut().zip(weight).for_each(|(v, w)| *v *= w);
    }
    if let Some(bias) = bias {
        add(x, bias);
    }
}

/// The whole vectors of `x`, and a last vector with the remaining elements, padded with `padding`.
#[inline(always)]
fn padded(x: &[f32], padding: f32) -> (&[[f32; LANES]], Option<[f32; LANES]>) {
    let (whole, tail) = x.as_chunks::<LANES>();
    let mut last = [padding; LANES];
    last[..tail.len()].copy_from_slice(tail);
    (whole, (!tail.is_empty()).then_some(last))
}

/// Sum of `x - offset`, or of its squares.
struct Sum<'a> {
    x: &'a [f32],
    offset: f32,
    squares: bool,
}

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let (mut sum, offset) = (l.splat(0.0), l.splat(self.offset));
        let (whole, last) = padded(self.x, self.offset);
        for chunk in whole.iter().chain(&last) {
            let v = l.sub(l.array(chunk), offset);
            sum = if self.squares { l.mul_add(v, v, sum) } else { l.add(sum, v) };
        }
        tree_sum(&l.to_array(sum))
    }
}

/// The largest element; NaN or minus infinity if there is none.
struct Max<'a> {
    x: &'a [f32],
}

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let (whole, last) = padded(self.x, f32::NEG_INFINITY);
        let mut max = l.splat(f32::NEG_INFINITY);
        for chunk in whole.iter().chain(&last) {
            max = l.max(l.array(chunk), max);
        }
        l.max_lane(max)
    }
}

/// Sum of `e^(x - max)`.
struct ExpSum<'a> {
    x: &'a [f32],
    max: f32,
}

impl Kernel for ExpSum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let (max, log2_e) = (l.splat(self.max), l.splat(std::f32::consts::LOG2_E));
        let (whole, last) = padded(self.x, f32::NEG_INFINITY);
        let mut sum = l.splat(0.0);
        for chunk in whole.iter().chain(&last) {
            sum = l.add(sum, exp2(l, l.mul(l.sub(l.array(chunk), max), log2_e)));
        }
        tree_sum(&l.to_array(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_those_of_the_definitions() {
        let x: Vec<f32> = (0..37i16).map(|i| f32::from(i * i % 23) - 9.0).collect();
        let w: Vec<f32> = (0..37i16).map(|i| f32::from(i) * 0.1).collect();
        let mut y = x.clone();
        rms_norm(&mut y, Some(&w), 1e-5);
        let mean: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 37.0;
        for i in 0..37 {
            let truth = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(w[i]);
            assert!((f64::from(y[i]) - truth).abs() < 1e-5);
        }
        let mut y = x.clone();
        layer_norm(&mut y, Some(&w), Some(&w), 1e-5);
        let mean: f64 = x.iter().map(|v| f64::from(*v)).sum::<f64>() / 37.0;
        let variance: f64 = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 37.0;
        for i in 0..37 {
            let w = f64::from(w[i]);
            let truth = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt() * w + w;
            assert!((f64::from(y[i]) - truth).abs() < 1e-5);
        }
    }

    #[test]
    fn softmax_sums_to_one() {
        let mut x = [1000.0, 999.0, f32::NEG_INFINITY];
        softmax(&mut x);
        assert!((x[0] - 0.731_058_6).abs() < 1e-6 && (x[1] - 0.268_941_43).abs() < 1e-6 && x[2] == 0.0);
    }

    #[test]
    fn log_sum_exp_is_close() {
        for n in [1u16, 15, 16, 33, 5000] {
            let x: Vec<f32> = (0..n).map(|i| f32::from(i.wrapping_mul(37) % 1009) * 0.05 - 20.0).collect();
            let truth = x.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
            assert!((log_sum_exp(&x) - truth).abs() < 1e-6, "{n}: {} for {truth}", log_sum_exp(&x));
        }
        let mut x = [1.0; 40];
        x[39] = f32::NEG_INFINITY;
        assert!((log_sum_exp(&x) - 1.0 - 39f64.ln()).abs() < 1e-6);
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, 17, 39] {
                let mut x = [1.0; 40];
                x[at] = bad;
                assert!(!log_sum_exp(&x).is_finite(), "{bad} at {at}");
            }
        }
        assert!(!log_sum_exp(&[f32::NEG_INFINITY; 20]).is_finite());
    }
}
