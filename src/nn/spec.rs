//! What a decoder-only transformer is made of, as data: an architecture fills this in, [`super::Decoder`] runs it.
//!
//! Sizes that tensors show (bias or none, tied output or not, query norms) are not repeated here: the decoder
//! looks whether the tensor is there.

use super::{KeySharing, LengthScale, RopeSpec};
use crate::kernels::Activation;

/// A whole model.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Length of the residual stream.
    pub embedding_length: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The norms of the residual stream.
    pub norm: NormSpec,
    /// Factor of the token embeddings.
    pub embedding_scale: f32,
    /// Factor of the logits.
    pub logit_scale: f32,
    /// Logits are squashed to this range: `cap * tanh(logit / cap)`.
    pub logit_softcap: Option<f32>,
    /// The final norm's tensor, without `.weight`.
    pub output_norm: &'static str,
    /// A second embedding for every block, where the family has one.
    pub block_inputs: Option<BlockInputs>,
    /// The blocks, first to last.
    pub blocks: Vec<BlockSpec>,
}

/// A norm's kind and its epsilon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormSpec {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square (or variance) before the root.
    pub epsilon: f32,
}

/// The two norms that transformers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) * weight`.
    Rms,
    /// `(x - mean) / deviation * weight + bias`.
    Layer,
}

/// Per-block token embeddings (Gemma's per-layer inputs).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockInputs {
    /// Elements a block and token.
    pub length: usize,
}

/// One block: a mixer along the sequence, then a feed-forward part at every position.
#[derive(Clone, Debug)]
pub struct BlockSpec {
    /// What mixes positions.
    pub mixer: Mixer,
    /// What follows at each position.
    pub feed_forward: FeedForward,
    /// How both hang on the residual stream.
    pub wiring: Wiring,
    /// Tensor names of the block's norms.
    pub norms: BlockNorms,
    /// Factor of each part's output before it is added to the residual stream.
    pub residual_scale: f32,
}

/// How a block's two parts are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The feed-forward part sees the residual stream with the mixer's output added.
    Sequential,
    /// Both see the block's input.
    Parallel,
}

/// Tensor names, without `blk.N.` and `.weight`, of a block's norms; `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNorms {
    /// Before the mixer.
    pub mixer_in: Option<&'static str>,
    /// After the mixer.
    pub mixer_out: Option<&'static str>,
    /// Before the feed-forward part; the same name as `mixer_in` when both share one.
    pub feed_forward_in: Option<&'static str>,
    /// After the feed-forward part.
    pub feed_forward_out: Option<&'static str>,
}

impl BlockNorms {
    /// A norm before each part: the usual form.
    pub const PRE: Self = Self {
        mixer_in: Some("attn_norm"),
        mixer_out: None,
        feed_forward_in: Some("ffn_norm"),
        feed_forward_out: None,
    };
    /// As [`Self::PRE`], where the file calls the second one after the attention that it follows.
    pub const PRE_POST_NAMED: Self = Self { feed_forward_in: Some("post_attention_norm"), ..Self::PRE };
    /// A norm after each part and none before.
    pub const POST: Self = Self {
        mixer_in: None,
        mixer_out: Some("post_attention_norm"),
        feed_forward_in: None,
        feed_forward_out: Some("post_ffw_norm"),
    };
    /// A norm before and after each part.
    pub const SANDWICH: Self =
        Self { mixer_out: Self::POST.mixer_out, feed_forward_out: Self::POST.feed_forward_out, ..Self::PRE };
}

/// What mixes positions.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
    /// Only this many latest positions are seen, the current one included.
    pub window: Option<usize>,
    /// Rotary position embedding; `None` where the block has none.
    pub rope: Option<RopeSpec>,
    /// Kind of the query and key norms, where their tensors are there.
    pub qk_norm: NormKind,
    /// Whether those norms come after the rotary embedding.
    pub norm_after_rope: bool,
    /// Whether values are RMS-normed, without weight.
    pub value_norm: bool,
    /// Whether the query projection carries, after each head, a gate for that head's output (through a sigmoid).
    pub output_gate: bool,
    /// Growth of the queries with the position.
    pub length_scale: Option<LengthScale>,
    /// The earlier block whose keys and values this one reads.
    pub shares_kv_of: Option<usize>,
}

/// Multi-head latent attention, in the absorbed form: one key head of `kv_rank + rope` elements a position.
#[derive(Clone, Debug)]
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

/// What follows the mixer at each position.
#[derive(Clone, Debug)]
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

/// A mixture of experts.
#[derive(Clone, Debug)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// Experts a token.
    pub used: usize,
    /// Their activation.
    pub activation: Activation,
    /// How router logits become weights.
    pub gating: Gating,
    /// Whether the chosen weights are made to sum to one.
    pub normalize: bool,
    /// Factor of the weights.
    pub weight_scale: f32,
    /// Experts are first chosen by group.
    pub groups: Option<Groups>,
}

/// How router logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// Softmax over all experts, then the choice.
    Softmax,
    /// A sigmoid an expert, then the choice.
    Sigmoid,
    /// The choice, then softmax over the chosen.
    SoftmaxOfChosen,
}

/// Choice by groups: only experts of the best groups take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Number of groups.
    pub count: usize,
    /// Groups that take part.
    pub used: usize,
    /// Experts whose scores together are a group's.
    pub best: usize,
}
