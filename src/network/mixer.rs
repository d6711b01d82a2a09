//! What mixes positions: attention, and the recurrences that stand in its place.

use super::{LengthScale, NormKind, RopeSpec};

/// What mixes positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Softmax attention over keys and values.
    Attention(AttentionMixer),
    /// Multi-head latent attention over one compressed key-value vector a position.
    Latent(LatentMixer),
    /// A gated delta net.
    DeltaNet(DeltaNetMixer),
    /// A Mamba 2 recurrence.
    Mamba2(Mamba2Mixer),
    /// A gated short convolution.
    ShortConv(ShortConvMixer),
}

/// Softmax attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMixer {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads: a divisor of `heads`.
    pub kv_heads: usize,
    /// Length of a query or key head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores are squashed to this range.
    pub softcap: Option<f32>,
    /// Whether a position sees only those up to itself; else it sees the whole sequence, which is then evaluated in one
    /// pass.
    pub causal: bool,
    /// Only this many latest positions are seen, the current one included. Where attention is not causal, half as many
    /// are seen before the current one and half as many after it.
    pub window: Option<usize>,
    /// Positions are in chunks of so many, and only those of the position's own chunk are seen.
    pub chunk: Option<usize>,
    /// Queries, keys and values are clamped to this range before anything else is done with them.
    pub clamp: Option<f32>,
    /// Rotary position embedding; `None` where the layer has none.
    pub rope: Option<RopeSpec>,
    /// Kind of the query and key norms, where their tensors are there.
    pub qk_norm: NormKind,
    /// Whether these norms are there without tensors, and have no weights.
    pub plain_qk_norm: bool,
    /// Whether those norms come after the rotary embedding.
    pub norm_after_rope: bool,
    /// Whether values are RMS-normed, without weight.
    pub value_norm: bool,
    /// Whether the query projection carries, after each head, a gate for that head's output (through a sigmoid).
    pub output_gate: bool,
    /// Function of the gates of the attention's result, where there are any.
    pub gate: OutputGate,
    /// Factor of the attention's result.
    pub value_scale: f32,
    /// Growth of the queries with the position.
    pub length_scale: Option<LengthScale>,
    /// The earlier layer whose keys and values this one reads.
    pub shares_kv_of: Option<usize>,
}

/// What an element of the attention's result is multiplied by, for the `x` of its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputGate {
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `ln(1 + e^x)`.
    Softplus,
}

/// Multi-head latent attention, in the absorbed form: one key head of `kv_rank + rope` elements a position.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentMixer {
    /// Query heads.
    pub heads: usize,
    /// Length of the compressed key-value vector.
    pub kv_rank: usize,
    /// Length of a head's part without position.
    pub plain_dim: usize,
    /// Length of a head's rotated part.
    pub rope_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Rotary embedding of the rotated part.
    pub rope: RopeSpec,
    /// Growth of the queries with the position.
    pub length_scale: Option<LengthScale>,
}

/// A gated delta net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaNetMixer {
    /// Value heads.
    pub heads: usize,
    /// Heads of keys and queries: a divisor of `heads`.
    pub key_heads: usize,
    /// Length of a key or query head.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Positions that the convolution before it sees.
    pub taps: usize,
    /// How value heads share keys.
    pub sharing: KeySharing,
}

/// A Mamba 2 recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mamba2Mixer {
    /// Heads.
    pub heads: usize,
    /// Groups of neighbouring heads that share keys and queries (`B` and `C`): a divisor of `heads`.
    pub groups: usize,
    /// Length of a key or query: the state's size an element of a value.
    pub k_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Positions that the convolution before it sees.
    pub taps: usize,
}

/// A gated short convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortConvMixer {
    /// Positions that it sees, the current one included.
    pub taps: usize,
}

/// Which key head a value head goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySharing {
    /// Neighbouring value heads share a key head: `0 0 1 1`.
    Adjacent,
    /// Value heads go through all key heads in turn: `0 1 0 1`.
    Tiled,
}
