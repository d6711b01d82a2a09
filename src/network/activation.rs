//! Activation functions of feed-forward parts.

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
    /// `x/2 (1 + erf(x / sqrt 2))`.
    GeluErf,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
    /// Apertus' xIELU: `a x^2 + beta x` of what is above 0, and `b (e^min(x, eps) - 1 - x) + beta x` of the rest.
    Xielu {
        /// `a`.
        positive: f32,
        /// `b`.
        negative: f32,
        /// Slope at 0.
        beta: f32,
        /// Bound of the exponent.
        eps: f32,
    },
    /// gpt-oss: `g sigmoid(alpha g) (u + 1)` for `g = min(x, limit)`, `u` clamped to `limit`.
    SwigluOai {
        /// Slope of the sigmoid.
        alpha: f32,
        /// Bound of gate and up.
        limit: f32,
    },
}
