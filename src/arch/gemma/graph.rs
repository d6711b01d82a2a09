//! The graph: embeddings times the root of their length, rotary embedding of halves, GELU.

use crate::arch::graph::{attention, factor, gated, layer, model, rope, sliding_rope, windows};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, LayerNorms, Mixer, ModelSpec, NormKind, RopeSpec, RopeStyle, Tensors};

/// Of Gemma 2 every second block sees everything.
pub(super) const PERIOD2: usize = 2;
/// Of Gemma 3 every sixth block sees everything.
pub(super) const PERIOD3: usize = 6;

pub(super) fn gemma(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    spec(h, LayerNorms::PRE, &rope, &rope, &vec![None; h.block_count], 0)
}

pub(super) fn gemma2(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    spec(h, LayerNorms::SANDWICH, &rope, &rope, &windows(h, Some(PERIOD2))?, 46)
}

pub(super) fn gemma3(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let (global, local) = (rope(h, weights, RopeStyle::Halves)?, sliding_rope(h, RopeStyle::Halves)?);
    spec(h, LayerNorms::SANDWICH, &global, &local, &windows(h, Some(PERIOD3))?, 62)
}

/// The factor of the scores: the largest model's heads are shorter than their share of the embedding, by which its
/// scores are scaled, and files do not say it.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn usual_scale(layers: usize, layers_of_27b: usize, share: usize, head: usize) -> f32 {
    1.0 / (if layers == layers_of_27b { share } else { head } as f32).sqrt()
}

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
fn spec(
    h: &Hparams,
    norms: LayerNorms,
    global: &RopeSpec,
    local: &RopeSpec,
    windows: &[Option<usize>],
    layers_of_27b: usize,
) -> Result<ModelSpec, Error> {
    let softcap = factor(h, keys::ATTN_LOGIT_SOFTCAPPING)?;
    let own_scale = factor(h, keys::ATTENTION_SCALE)?;
    let layers = windows.iter().enumerate().map(|(i, &window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { local } else { global }.clone()));
        let share = h.embedding_length.checked_div(h.head_count[i]).unwrap_or(h.key_length);
        let usual = usual_scale(h.block_count, layers_of_27b, share, h.key_length);
        mixer.scale = own_scale.unwrap_or(usual);
        (mixer.window, mixer.softcap) = (window, softcap);
        let mut block = layer(Mixer::Attention(mixer), gated(Activation::GeluTanh));
        block.norms = norms;
        block
    });
    let mut model = model(h, NormKind::Rms, layers.collect());
    model.embedding_scale = (h.embedding_length as f32).sqrt();
    model.logit_softcap = factor(h, keys::FINAL_LOGIT_SOFTCAPPING)?;
    Ok(model)
}
