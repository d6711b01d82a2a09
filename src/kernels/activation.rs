//! The activation functions of feed-forward parts.

use crate::network::Activation;
use crate::simd::Isa;
use crate::simd::LANES;
use crate::simd::lanes::{Kernel, Lanes, exp2, tanh_half_ln2};

/// An activation function applied to rows.
impl Activation {
    /// Applies the function to every element of `x`, in place. For [`Self::SwigluOai`], which has two inputs, this is the
    /// factor that the gate contributes.
    pub fn apply(self, x: &mut [f32]) {
        Isa::active().run(Apply { activation: self, x, up: None });
    }

    /// `x = act(x) * up`, in place.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn apply_gated(self, x: &mut [f32], up: &[f32]) {
        assert_eq!(x.len(), up.len());
        Isa::active().run(Apply { activation: self, x, up: Some(up) });
    }
}

struct Apply<'a> {
    activation: Activation,
    x: &'a mut [f32],
    up: Option<&'a [f32]>,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { activation, x, up } = self;
        // Short rows and tails go through a padded buffer, so that every element takes the same operations.
        let mut start = 0;
        while start < x.len() {
            let n = LANES.min(x.len() - start);
            let mut buffer = [[0.0f32; LANES]; 2];
            buffer[0][..n].copy_from_slice(&x[start..start + n]);
            if let Some(up) = up {
                buffer[1][..n].copy_from_slice(&up[start..start + n]);
            }
            let (g, u) = (l.array(&buffer[0]), l.array(&buffer[1]));
            let y = evaluate(l, activation, g, up.is_some().then_some(u));
            x[start..start + n].copy_from_slice(&l.to_array(y)[..n]);
            start += n;
        }
    }
}

#[inline(always)]
fn evaluate<L: Lanes>(l: L, activation: Activation, g: L::Float, up: Option<L::Float>) -> L::Float {
    let zero = l.splat(0.0);
    let y = match activation {
        Activation::Silu => l.mul(g, sigmoid(l, g)),
        Activation::GeluTanh => {
            // tanh(t) with t in units of ln(2)/2.
            let scale = 2.0 * std::f32::consts::LOG2_E * 0.797_884_6;
            let cube = l.mul(l.mul(g, g), g);
            let inner = l.mul(l.splat(scale), l.mul_add(cube, l.splat(0.044_715), g));
            let half = l.mul(l.splat(0.5), g);
            l.mul_add(half, tanh_half_ln2(l, inner), half)
        }
        Activation::GeluErf => {
            // `x Phi(x)`, where Phi is half of erfc on the left, and one less that on the right.
            let half = l.mul(l.splat(0.5), erfc(l, l.mul(l.abs(g), l.splat(std::f32::consts::FRAC_1_SQRT_2))));
            l.mul(g, l.select_lt(g, zero, half, l.sub(l.splat(1.0), half)))
        }
        Activation::Relu => l.max(g, zero),
        Activation::ReluSquared => {
            let r = l.max(g, zero);
            l.mul(r, r)
        }
        Activation::Xielu { positive, negative, beta, eps } => {
            // `e^x - 1` near 0 has too few digits as a difference: there is no such function in lanes.
            l.array(&l.to_array(g).map(|x| {
                let curve = if x > 0.0 { positive * x * x } else { negative * (x.min(eps).exp_m1() - x) };
                curve + beta * x
            }))
        }
        Activation::SwigluOai { alpha, limit } => {
            let g = l.min(g, l.splat(limit));
            let own = l.mul(g, sigmoid(l, l.mul(g, l.splat(alpha))));
            let Some(u) = up else { return own };
            let u = l.max(l.splat(-limit), l.min(l.splat(limit), u));
            return l.mul(own, l.add(u, l.splat(1.0)));
        }
    };
    match up {
        Some(u) => l.mul(y, u),
        None => y,
    }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid<L: Lanes>(l: L, x: L::Float) -> L::Float {
    let power = l.mul(x, l.splat(-std::f32::consts::LOG2_E));
    // Larger exponents are outside of the polynomial's range; the result is zero in f32 there.
    let power = l.min(l.splat(126.0), power);
    let one = l.splat(1.0);
    l.div(one, l.add(one, exp2(l, power)))
}

/// `1 - erf(z)` for `z >= 0`, with a relative error of 1e-6 up to `z = 4`: `t e^(-z^2 + P(t))` with `t = 1 / (1 + z/2)`, the
/// Chebyshev fit of *Numerical Recipes* (1.2e-7).
#[inline(always)]
fn erfc<L: Lanes>(l: L, z: L::Float) -> L::Float {
    let t = l.div(l.splat(2.0), l.add(l.splat(2.0), z));
    let mut polynomial = l.splat(ERFC[0]);
    for &coefficient in &ERFC[1..] {
        polynomial = l.mul_add(polynomial, t, l.splat(coefficient));
    }
    let exponent = l.sub(polynomial, l.mul(z, z));
    l.mul(t, exp2(l, l.mul(exponent, l.splat(std::f32::consts::LOG2_E))))
}

/// The coefficients of `P`, highest power first.
const ERFC: [f32; 10] = [
    0.170_872_77,
    -0.822_152_23,
    1.488_515_9,
    -1.135_204,
    0.278_868_07,
    -0.186_288_06,
    0.096_784_18,
    0.374_091_96,
    1.000_023_7,
    -1.265_512_2,
];

#[cfg(test)]
mod tests {
    use super::Activation;

    #[test]
    fn values_are_those_of_the_definitions() {
        let xs = [-100.0f32, -20.0, -3.0, -0.5, -1e-4, 0.0, 1e-3, 0.7, 2.0, 9.0, 50.0];
        let exact = |activation: Activation, x: f64| match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Relu => x.max(0.0),
            Activation::ReluSquared => x.max(0.0).powi(2),
            _ => unreachable!("not in the list below"),
        };
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::Relu, Activation::ReluSquared] {
            let mut y = xs;
            activation.apply(&mut y);
            for (x, y) in xs.iter().zip(y) {
                let truth = exact(activation, f64::from(*x));
                let error = (f64::from(y) - truth).abs();
                assert!(error <= 2e-6 * truth.abs() + 2e-7, "{activation:?}({x}) = {y}, not {truth}");
            }
        }
    }

    /// `x Phi(x)` by the series of the normal distribution, in `f64`.
    #[test]
    fn gelu_with_erf() {
        let xs: Vec<f32> = (-600..=600i16).map(|i| f32::from(i) * 0.01).chain([-40.0, -1e30, 40.0, 1e30]).collect();
        let mut y = xs.clone();
        Activation::GeluErf.apply(&mut y);
        for (x, y) in xs.iter().zip(y) {
            let x = f64::from(*x);
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= x * x / f64::from(2 * n + 1);
                sum += term;
            }
            let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let truth = if x.abs() < 7.0 { x * (0.5 + sum * density) } else { x.max(0.0) };
            assert!((f64::from(y) - truth).abs() <= 3e-7 * truth.abs().max(1.0), "gelu({x}) = {y}, not {truth}");
        }
        let mut y = [f32::NAN];
        Activation::GeluErf.apply(&mut y);
        assert!(y[0].is_nan());
    }

    #[test]
    fn xielu_is_a_parabola_above_zero() {
        let activation = Activation::Xielu { positive: 0.75, negative: 1.25, beta: 0.5, eps: -1e-6 };
        let exact = |x: f64| {
            let curve = if x > 0.0 { 0.75 * x * x } else { 1.25 * (x.min(-1e-6).exp_m1() - x) };
            curve + 0.5 * x
        };
        let xs = [-30.0f32, -2.0, -0.5, -1e-3, 0.0, 1e-3, 0.7, 3.0];
        let mut y = xs;
        activation.apply(&mut y);
        for (x, y) in xs.iter().zip(y) {
            let truth = exact(f64::from(*x));
            assert!((f64::from(y) - truth).abs() <= 1e-6 * truth.abs() + 1e-9, "xielu({x}) = {y}, not {truth}");
        }
    }

    #[test]
    fn gated_is_the_product() {
        let (mut x, up) = ([1.0f32, -2.0, 0.5], [3.0f32, 0.25, -1.0]);
        let mut act = x;
        Activation::Silu.apply(&mut act);
        Activation::Silu.apply_gated(&mut x, &up);
        assert_eq!(x, [act[0] * up[0], act[1] * up[1], act[2] * up[2]]);
        let mut g = [9.0f32, 0.5];
        Activation::SwigluOai { alpha: 1.702, limit: 7.0 }.apply_gated(&mut g, &[-9.0, 1.0]);
        assert!((g[0] - 7.0 / (1.0 + (-1.702f32 * 7.0).exp()) * -6.0).abs() < 1e-4);
        assert!((g[1] - 0.5 / (1.0 + (-1.702f32 * 0.5).exp()) * 2.0).abs() < 1e-6);
    }
}
