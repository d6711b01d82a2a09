//! Norms: of the residual stream, and of heads.

/// A norm's kind and its epsilon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square (or variance) before the root.
    pub epsilon: f32,
    /// Whether it has no weights.
    pub plain: bool,
}

/// The two norms that transformers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) * weight`.
    Rms,
    /// `(x - mean) / deviation * weight + bias`.
    Layer,
}
