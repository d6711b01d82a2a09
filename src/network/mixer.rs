//! Mixers: attention, and the recurrences that take its place.

use super::{LengthScale, NormKind, RopeSpec};

/// The part of a layer that combines positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Softmax attention over keys and values.
    Attention(AttentionMixer),
    /// Multi-head latent attention over one compressed key-value vector per position.
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
    /// Queries, keys and values are clamped to this range before anything else is done with them.
    pub clamp: Option<f32>,
    /// Rotary position embedding; `None` where the layer has none.
    pub rope: Option<RopeSpec>,
    /// Kind of the query and key norms, where their tensors are there.
    pub qk_norm: NormKind,
    /// Whether those norms come after the rotary embedding.
    pub norm_after_rope: bool,
    /// Whether values are RMS-normed, without weight.
    pub value_norm: bool,
    /// Whether the query projection carries, after each head, a gate for that head's output (through a sigmoid).
    pub output_gate: bool,
    /// A factor of queries that grows with the position.
    pub length_scale: Option<LengthScale>,
    /// The earlier layer whose keys and values this one reads.
    pub shares_kv_of: Option<usize>,
}

/// Multi-head latent attention, in the absorbed form: one key head of `kv_rank + rope_dim` elements per position.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentMixer {
    /// Query heads.
    pub heads: usize,
    /// Length of the compressed key-value vector.
    pub kv_rank: usize,
    /// Length of a head's part that is not rotated.
    pub plain_dim: usize,
    /// Length of a head's rotated part.
    pub rope_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Rotary embedding of the rotated part.
    pub rope: RopeSpec,
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
    /// Length of a key or query: the size of the state for each element of a value.
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

/// Which key head belongs to a value head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySharing {
    /// Neighbouring value heads share a key head: `0 0 1 1`.
    Adjacent,
    /// Value heads use all key heads in turn: `0 1 0 1`.
    Tiled,
}
