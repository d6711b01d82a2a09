//! Mixers: attention, and the recurrences that take its place.

use super::{LengthScale, NormKind, NormSpec, RopeSpec};

/// The part of a layer that combines positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Nothing: each position for itself.
    None,
    /// Softmax attention over keys and values.
    Attention(AttentionMixer),
    /// Multi-head latent attention over one compressed key-value vector per position.
    Latent(LatentMixer),
    /// A gated delta net.
    DeltaNet(DeltaNetMixer),
    /// Kimi's delta attention: a delta net whose state decays by element of a key.
    KimiDelta(KimiDeltaMixer),
    /// A Mamba 1 recurrence.
    Mamba1(Mamba1Mixer),
    /// A Mamba 2 recurrence.
    Mamba2(Mamba2Mixer),
    /// A gated short convolution.
    ShortConv(ShortConvMixer),
    /// Attention and Mamba 2 side by side: both see the same, and their outputs are added.
    AttentionAndMamba2(AttentionMixer, Mamba2Mixer),
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
    /// Scores fall with the distance of their positions (ALiBi), at most so steeply: see [`alibi_slopes`].
    pub max_alibi: Option<f32>,
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
    /// Length of a head's part that is not rotated.
    pub plain_dim: usize,
    /// Length of a head's rotated part.
    pub rope_dim: usize,
    /// Length of a value head.
    pub v_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Rotary embedding of the rotated part; `None` where it is not rotated after all.
    pub rope: Option<RopeSpec>,
    /// Growth of the queries with the position.
    pub length_scale: Option<LengthScale>,
    /// Which positions are seen; all up to the current one where nothing chooses.
    pub selection: Option<Selection>,
}

impl LatentMixer {
    /// Elements that are cached as the key of a position: the compressed vector, the rotated part, the indexer's key.
    #[must_use]
    pub fn key_length(&self) -> usize {
        let indexed = match &self.selection {
            Some(Selection::Indexer(indexer)) => indexer.dim,
            _ => 0,
        };
        self.kv_rank + self.rope_dim + indexed
    }
}

/// Which positions sparse attention sees.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Those with the highest scores of an indexer.
    Indexer(Indexer),
    /// Those that the nearest indexer in an earlier layer has chosen.
    OfEarlierLayer,
}

/// DeepSeek's lightning indexer: small heads over keys of their own, one per position, whose scores `sum over heads of
/// weight * max(0, query . key)` choose the positions that attention sees. The weight of each head comes from the layer's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Indexer {
    /// Query heads.
    pub heads: usize,
    /// Length of a head and of the key.
    pub dim: usize,
    /// Positions that are chosen at most.
    pub top_k: usize,
    /// Rotary embedding of the first elements of a head and of the key.
    pub rope: RopeSpec,
    /// The norm of the key.
    pub norm: NormSpec,
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

/// Kimi's delta attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KimiDeltaMixer {
    /// Heads of queries, keys and values.
    pub heads: usize,
    /// Length of each of them.
    pub dim: usize,
    /// Positions that the convolutions before it see.
    pub taps: usize,
}

/// A Mamba 1 recurrence: every channel has a state, a step width and rates of decay of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mamba1Mixer {
    /// Channels.
    pub channels: usize,
    /// Length of keys and queries (`B` and `C`), which all channels share: the state's size a channel.
    pub state: usize,
    /// Rank of the step widths.
    pub rank: usize,
    /// Positions that the convolution before it sees.
    pub taps: usize,
    /// Epsilon of the RMS norms of step widths, keys and queries where these have no weights. Those with weights have the
    /// epsilon of all norms, and there are no others.
    pub plain_norms: Option<f32>,
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

/// How much the scores of each head fall a position (attention with linear biases). With `n` heads, a power of two, head `i`
/// has `2^(-max i / n)` for `i` from 1; heads beyond the largest power of two have the slopes between these.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "heads are far fewer than 2^24")]
pub fn alibi_slopes(max: f32, heads: usize) -> Vec<f32> {
    let whole = heads.checked_ilog2().map_or(1, |log| 1 << log);
    let exponent = |head: usize| match head.checked_sub(whole) {
        None => (head + 1) as f32 / whole as f32,
        Some(more) => (2 * more + 1) as f32 / (2 * whole) as f32,
    };
    (0..heads).map(|head| (-max * exponent(head)).exp2()).collect()
}

#[cfg(test)]
mod tests {
    use super::alibi_slopes;

    #[test]
    fn slopes_are_powers_and_those_between() {
        assert_eq!(alibi_slopes(8.0, 4), [0.25, 0.0625, 1.0 / 64.0, 1.0 / 256.0]);
        assert_eq!(alibi_slopes(8.0, 3), [0.0625, 1.0 / 256.0, 0.25]);
        assert_eq!(alibi_slopes(4.0, 6)[4..], [2f32.powf(-0.5), 2f32.powf(-1.5)]);
    }
}
