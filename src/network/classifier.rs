//! A classification head: what turns the pooled hidden state of a text into scores.

use super::Pooling;

/// A classification head. Which of its parts there are, tensors show: `cls` (a linear map and a function behind it),
/// `cls.norm` behind that, and `cls.output` (the scores).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classifier {
    /// How the hidden states of a text become the one that scores are computed from.
    pub pooling: Pooling,
    /// Number of scores.
    pub scores: usize,
    /// The function behind `cls`.
    pub function: HeadFunction,
    /// Whether the scores become shares of one (softmax).
    pub softmax: bool,
}

/// The function behind a head's first linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFunction {
    /// The hyperbolic tangent.
    Tanh,
    /// GELU with the error function.
    Gelu,
}
