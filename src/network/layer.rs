//! One layer: a mixer along the sequence, a feed-forward part at every position, and the residual stream around them.

use super::{FeedForward, Mixer};

/// One layer: a mixer along the sequence, then a feed-forward part at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// The mixer.
    pub mixer: Mixer,
    /// The feed-forward part.
    pub feed_forward: FeedForward,
    /// How both are connected to the residual stream.
    pub wiring: Wiring,
    /// Tensor names of the layer's norms.
    pub norms: LayerNorms,
    /// Factor of each part's output before it is added to the residual stream.
    pub residual_scale: f32,
    /// The gates of a dense feed-forward part count by how much they are above their mean plus so many of their
    /// standard deviations, and not at all below.
    pub gate_cut: Option<f32>,
}

/// How a layer's two parts are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// The feed-forward part sees the residual stream with the mixer's output added.
    Sequential,
    /// Both see the layer's input.
    Parallel,
}

/// Tensor names, without `blk.N.` and `.weight`, of a layer's norms; `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerNorms {
    /// Before the mixer.
    pub mixer_in: Option<&'static str>,
    /// Of the mixer's output, before it is added to the residual stream.
    pub mixer_out: Option<&'static str>,
    /// Of the residual stream, once the mixer's output has been added to it.
    pub mixer_sum: Option<&'static str>,
    /// Before the feed-forward part; the same name as `mixer_in` when both share one.
    pub feed_forward_in: Option<&'static str>,
    /// Of the feed-forward part's output, before it is added to the residual stream.
    pub feed_forward_out: Option<&'static str>,
    /// Of the residual stream, once the feed-forward part's output has been added to it.
    pub feed_forward_sum: Option<&'static str>,
}

impl LayerNorms {
    /// No norm.
    pub const NONE: Self = Self {
        mixer_in: None,
        mixer_out: None,
        mixer_sum: None,
        feed_forward_in: None,
        feed_forward_out: None,
        feed_forward_sum: None,
    };
    /// A norm before each part: the usual form.
    pub const PRE: Self = Self { mixer_in: Some("attn_norm"), feed_forward_in: Some("ffn_norm"), ..Self::NONE };
    /// As [`Self::PRE`], where the file calls the second one after the attention that it follows.
    pub const PRE_POST_NAMED: Self = Self { feed_forward_in: Some("post_attention_norm"), ..Self::PRE };
    /// One norm before both parts, for a layer whose parts see the same.
    pub const ONE: Self = Self { feed_forward_in: Some("attn_norm"), ..Self::PRE };
    /// A norm after each part and none before.
    pub const POST: Self =
        Self { mixer_out: Some("post_attention_norm"), feed_forward_out: Some("post_ffw_norm"), ..Self::NONE };
    /// A norm of the residual stream after each part is added (post-norm, as in the first transformers).
    pub const SUMS: Self =
        Self { mixer_sum: Some("attn_output_norm"), feed_forward_sum: Some("layer_output_norm"), ..Self::NONE };
    /// A norm before and after each part.
    pub const SANDWICH: Self =
        Self { mixer_out: Self::POST.mixer_out, feed_forward_out: Self::POST.feed_forward_out, ..Self::PRE };
}
