//! Feed-forward parts: what follows the mixer at each position.

use super::{Activation, Experts, Gate};

/// What follows the mixer at each position.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedForward {
    /// Nothing.
    None,
    /// One dense part.
    Dense(Dense),
    /// A mixture of experts, with a dense shared part where its tensors are there.
    Experts(Experts),
    /// A dense part and experts beside it, each between norms of its own.
    DenseAndExperts(Dense, Experts),
}

/// A dense feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dense {
    /// Its activation.
    pub activation: Activation,
    /// How the gate is stored.
    pub gate: Gate,
}
