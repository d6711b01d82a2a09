//! Mixtures of experts.

use super::{Activation, Gate};

/// A mixture of experts.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// Experts per token.
    pub used: usize,
    /// Their activation.
    pub activation: Activation,
    /// Whether experts and the shared part have a gate.
    pub gate: Gate,
    /// How router logits become weights.
    pub gating: Gating,
    /// Whether the weights of the chosen experts are scaled to a sum of one.
    pub normalize: bool,
    /// Factor of the weights.
    pub weight_scale: f32,
    /// Whether an expert's input is multiplied by its weight, not its output.
    pub weighted_input: bool,
    /// Factor of the output, the shared part included.
    pub output_scale: f32,
    /// Choice by groups, for models that have it.
    pub groups: Option<Groups>,
}

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gating {
    /// Softmax over all experts, then the choice.
    Softmax,
    /// A sigmoid for each expert, then the choice.
    Sigmoid,
    /// The choice, then softmax over the chosen.
    SoftmaxOfChosen,
    /// One after the other: the best of those that are left, weighed by a softmax over those of them whose logits are close
    /// to its own, nearer than `2 * jitter` of their size (sparse mixer).
    SparseMixer {
        /// Noise of the logits that the model was trained with.
        jitter: f32,
    },
}

/// Choice by groups: only experts of the best groups take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Number of groups.
    pub count: usize,
    /// Groups that take part.
    pub used: usize,
    /// The number of best experts whose scores are summed to the score of a group.
    pub best: usize,
}
