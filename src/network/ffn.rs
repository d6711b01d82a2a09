//! Feed-forward parts, which follow the mixer at each position.

use super::{Activation, Experts, Gate};

/// The feed-forward part of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// Nothing.
    None,
    /// One dense part.
    Dense(Dense),
    /// A mixture of experts, with a shared expert if its tensors exist.
    Experts(Experts),
    /// A dense part in parallel with experts, each with norms of its own.
    DenseAndExperts(Dense, Experts),
}

impl FeedForward {
    /// Its experts, if it has any.
    #[must_use]
    pub const fn experts(&self) -> Option<&Experts> {
        match self {
            Self::Experts(experts) | Self::DenseAndExperts(_, experts) => Some(experts),
            Self::None | Self::Dense(_) => None,
        }
    }
}

/// A dense feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dense {
    /// Its activation.
    pub activation: Activation,
    /// How the gate is stored.
    pub gate: Gate,
}
