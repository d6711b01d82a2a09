//! The graph: layer norms, rotary embedding of halves, GELU.

use super::GELU;
use crate::arch::forward::{attention, block, gelu, model, plain, rope, windows};
use crate::arch::{Error, Hparams};
use crate::nn::{Mixer, ModelSpec, NormKind, RopeStyle, Weights};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let activation = gelu(h, GELU)?;
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let blocks = windows(h, None)?.into_iter().enumerate().map(|(i, window)| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = window;
        block(Mixer::Attention(mixer), plain(activation))
    });
    Ok(model(h, NormKind::Layer, blocks.collect()))
}
