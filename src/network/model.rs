//! A whole transformer, decoder or encoder: sizes, embeddings, final norm, logits.

use super::{AltUp, Classifier, LayerSpec, Mixer, NormSpec, Pooling};

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
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
    /// The final norm's tensor, without `.weight`; `None` where the last layer's output is the result.
    pub output_norm: Option<&'static str>,
    /// Whether hidden states become logits; encoders have no output matrix.
    pub logits: bool,
    /// How the hidden states of a text become its embedding, if the file says so.
    pub pooling: Option<Pooling>,
    /// The head that scores texts, where the file has one.
    pub classifier: Option<Classifier>,
    /// A second embedding for every layer, where the family has one.
    pub layer_inputs: Option<LayerInputs>,
    /// Several residual streams, where the family has them.
    pub altup: Option<AltUp>,
    /// The layers, first to last.
    pub layers: Vec<LayerSpec>,
    /// The layer behind them that predicts one more token (MTP), where the file has one and the family computes it: its
    /// input is a linear map (`nextn.eh_proj`) of the normed embedding of the next token and the normed hidden state.
    /// Executors run it on demand, for drafts.
    pub prediction: Option<LayerSpec>,
}

impl ModelSpec {
    /// The last layer that keeps a state of a sequence (keys and values, or a recurrence).
    #[must_use]
    pub fn last_stateful_layer(&self) -> usize {
        let has_state = |layer: &LayerSpec| match &layer.mixer {
            Mixer::None => false,
            Mixer::Attention(mixer) => mixer.shares_kv_of.is_none(),
            _ => true,
        };
        self.layers.iter().rposition(has_state).unwrap_or(0)
    }
}

/// Per-layer token embeddings (Gemma's per-layer inputs).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerInputs {
    /// Elements per layer and token.
    pub length: usize,
}
