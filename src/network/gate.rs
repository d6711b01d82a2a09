//! Gates of feed-forward parts.

/// Where a feed-forward part's gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// There is none: `down(act(up(x)))`.
    None,
    /// A tensor of its own: `down(act(gate(x)) * up(x))`.
    Separate,
    /// The first half of the up tensor's rows.
    InUp,
}
