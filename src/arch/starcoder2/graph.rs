//! The graph: layer norms, rotary embedding of halves, GELU.

use super::GELU;
use crate::arch::graph::{attention, gelu, layer, model, plain, rope, windows};
use crate::arch::{Error, Hparams};
use crate::network::{Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let layers = windows(h, None)?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = window;
        layer(Mixer::Attention(mixer), plain(activation))
    });
    model(h, NormKind::Layer, layers.collect())
}
