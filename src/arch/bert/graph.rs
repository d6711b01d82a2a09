//! The graph: attention to the whole text, GELU, norms of the residual stream, no output matrix.

use super::GELU;
use crate::arch::graph::{attention, classifier, gelu, layer, model, plain};
use crate::arch::{Error, Hparams, keys};
use crate::network::{HeadFunction, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, Pooling, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let causal = h.bool_or(keys::ATTENTION_CAUSAL, false)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, None);
        mixer.causal = causal;
        LayerSpec { norms: LayerNorms::SUMS, ..layer(Mixer::Attention(mixer), plain(activation)) }
    });
    let classifier = classifier(h, weights, Pooling::Cls, HeadFunction::Tanh)?;
    Ok(ModelSpec { output_norm: None, logits: false, classifier, ..model(h, NormKind::Layer, layers.collect())? })
}
