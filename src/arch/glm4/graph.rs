//! The graph: norms around each part, rotary embedding of neighbours, SiLU.

use crate::arch::graph::{attention, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::gguf::{Array, Value};
use crate::network::{
    Activation, Dense, FeedForward, Gate, LayerNorms, Mixer, ModelSpec, NormKind, RopeStyle, Tensors,
};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    // The text part of the models that see images turns halves: its positions have three parts, which are the same in texts.
    let style = if has_sections(h) { RopeStyle::Halves } else { RopeStyle::Pairs };
    let rope = rope(h, weights, style)?;
    let layers = (0..h.block_count).map(|i| {
        let dense = Dense { activation: Activation::Silu, gate: Gate::InUp };
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = layer(Mixer::Attention(mixer), FeedForward::Dense(dense));
        block.norms = LayerNorms::SANDWICH;
        block
    });
    model(h, NormKind::Rms, layers.collect())
}

fn has_sections(h: &Hparams) -> bool {
    let sections = h.get(keys::ROPE_DIMENSION_SECTIONS).and_then(Value::as_array).and_then(Array::to_i64s);
    sections.is_some_and(|sections| sections.iter().take(2).filter(|&&section| section > 0).count() == 2)
}
