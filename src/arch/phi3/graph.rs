//! The graph: rotary embedding of halves, of other factors in long contexts; fused projections, SiLU.

use crate::arch::graph::{attention, layer, long_rope, model, windows};
use crate::arch::{Error, Hparams};
use crate::network::{Activation, Dense, FeedForward, Gate, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = long_rope(h, weights, RopeStyle::Halves)?;
    let windows = windows(h, None)?;
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = windows[i];
        let dense = Dense { activation: Activation::Silu, gate: Gate::InUp };
        layer(Mixer::Attention(mixer), FeedForward::Dense(dense))
    });
    model(h, NormKind::Rms, layers.collect())
}
