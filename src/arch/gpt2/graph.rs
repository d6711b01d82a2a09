//! The graph: layer norms, no rotary embedding, GELU.

use super::GELU;
use crate::arch::graph::{attention, gelu, layer, model, plain};
use crate::arch::{Error, Hparams};
use crate::network::{Mixer, ModelSpec, NormKind, Tensors};

pub(super) fn spec(h: &Hparams, _weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let layers =
        (0..h.block_count).map(|i| layer(Mixer::Attention(attention(h, i, None)), plain(activation))).collect();
    model(h, NormKind::Layer, layers)
}
