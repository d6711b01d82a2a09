//! The graph: norms around each part, rotary embedding of neighbours, SiLU.

use crate::arch::forward::{attention, block, model, rope};
use crate::arch::{Error, Hparams};
use crate::kernels::Activation;
use crate::nn::{BlockNorms, Dense, FeedForward, Gate, Mixer, ModelSpec, NormKind, RopeStyle, Weights};

pub(super) fn spec(h: &Hparams, weights: &Weights) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Pairs)?;
    let blocks = (0..h.block_count).map(|i| {
        let dense = Dense { activation: Activation::Silu, gate: Gate::InUp };
        let mixer = attention(h, i, Some(rope.clone()));
        let mut block = block(Mixer::Attention(mixer), FeedForward::Dense(dense));
        block.norms = BlockNorms::SANDWICH;
        block
    });
    Ok(model(h, NormKind::Rms, blocks.collect()))
}
