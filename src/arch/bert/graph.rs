//! The graph: attention to the whole text, GELU, norms of the residual stream, no output matrix.

use super::GELU;
use crate::arch::graph::{attention, gelu, layer, model, plain};
use crate::arch::{Error, Hparams, keys};
use crate::network::{LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, Tensors};

pub(super) fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let causal = h.bool_or(keys::ATTENTION_CAUSAL, false)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, None);
        mixer.causal = causal;
        LayerSpec { norms: LayerNorms::SUMS, ..layer(Mixer::Attention(mixer), plain(activation)) }
    });
    Ok(ModelSpec { output_norm: None, logits: false, ..model(h, NormKind::Layer, layers.collect())? })
}
