//! The graph: rotary embedding of halves, a window of as many positions before as after in most layers, GELU gates.

use super::PERIOD;
use crate::arch::config::{GELU, GELU_TANH};
use crate::arch::graph::{
    SlidingBase, attention, classifier, layer, model, rope, sliding_rope, windows_after_the_first,
};
use crate::arch::{Error, Hparams, keys};
use crate::network::{
    Activation, Dense, FeedForward, Gate, HeadFunction, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, Pooling,
    RopeStyle, Tensors,
};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let global = rope(h, weights, RopeStyle::Halves)?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::TenThousand)?;
    let causal = h.bool_or(keys::ATTENTION_CAUSAL, false)?;
    let activation = match h.str(keys::HIDDEN_ACTIVATION)? {
        None | Some(GELU) => Activation::GeluErf,
        Some(GELU_TANH) => Activation::GeluTanh,
        Some("silu") => Activation::Silu,
        Some(_) => return Err(h.bad_key(keys::HIDDEN_ACTIVATION, "gelu, gelu_pytorch_tanh or silu")),
    };
    let feed_forward = FeedForward::Dense(Dense { activation, gate: Gate::InUp });
    let windows = windows_after_the_first(h, PERIOD)?;
    let layers = windows.iter().enumerate().map(|(i, &window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { &local } else { &global }.clone()));
        (mixer.causal, mixer.window) = (causal, window);
        let layer = layer(Mixer::Attention(mixer), feed_forward.clone());
        // The embeddings come out of a norm: the first layer may have none of its own.
        let bare = i == 0 && !weights.has("blk.0.attn_norm.weight");
        LayerSpec { norms: if bare { LayerNorms { mixer_in: None, ..LayerNorms::PRE } } else { layer.norms }, ..layer }
    });
    let classifier = classifier(h, weights, Pooling::Mean, HeadFunction::Gelu)?;
    Ok(ModelSpec { logits: false, classifier, ..model(h, NormKind::Layer, layers.collect())? })
}
