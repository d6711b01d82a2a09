//! The graph: rotary embedding of halves, of other factors in long contexts; fused projections, SiLU.

use crate::arch::forward::{attention, block, long_rope, model, windows};
use crate::arch::{Error, Hparams};
use crate::kernels::Activation;
use crate::nn::{Dense, FeedForward, Gate, Mixer, ModelSpec, NormKind, RopeStyle, Weights};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = long_rope(h, weights, RopeStyle::Halves)?;
    let windows = windows(h, None)?;
    let blocks = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(rope.clone()));
        mixer.window = windows[i];
        let dense = Dense { activation: Activation::Silu, gate: Gate::InUp };
        block(Mixer::Attention(mixer), FeedForward::Dense(dense))
    });
    Ok(model(h, NormKind::Rms, blocks.collect()))
}
