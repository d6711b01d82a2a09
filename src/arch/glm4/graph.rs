//! The graph: norms around each part, rotary embedding of neighbours, SiLU.

use crate::arch::graph::{attention, layer, model, rope};
use crate::arch::{Error, Hparams};
use crate::network::{
    Activation, Dense, FeedForward, Gate, LayerNorms, Mixer, ModelSpec, NormKind, RopeStyle, Tensors,
};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Pairs)?;
    let layers = (0..h.block_count).map(|i| {
        let dense = Dense { activation: Activation::Silu, gate: Gate::InUp };
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = layer(Mixer::Attention(mixer), FeedForward::Dense(dense));
        block.norms = LayerNorms::SANDWICH;
        block
    });
    Ok(model(h, NormKind::Rms, layers.collect()))
}
