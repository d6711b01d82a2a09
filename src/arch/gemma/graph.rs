//! The graph: embeddings times the root of their length, rotary embedding of halves, GELU.

use crate::arch::graph::{
    SlidingBase, attention, factor, factor_or, gated, layer, model, rope, scaled_sliding_rope, sliding_rope, windows_or,
};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, LayerNorms, Mixer, ModelSpec, NormKind, RopeSpec, RopeStyle, Tensors, YarnEdges};

/// Of Gemma 2 every second block sees everything.
pub(super) const PERIOD2: usize = 2;
/// Of Gemma 3 every sixth block sees everything.
pub(super) const PERIOD3: usize = 6;

/// What a file says by leaving a key out, as llama.cpp reads it; a cap of 0 is none.
struct Defaults {
    /// `attn_logit_softcapping`.
    attn_softcap: f32,
    /// `final_logit_softcapping`.
    final_softcap: f32,
    /// Blocks of the model whose scores are scaled by the heads' share of the embedding.
    layers_of_27b: usize,
}

pub(super) fn gemma(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope = rope(h, weights, RopeStyle::Halves)?;
    let defaults = Defaults { attn_softcap: 0.0, final_softcap: 0.0, layers_of_27b: 0 };
    spec(h, LayerNorms::PRE, &rope, &rope, &vec![None; h.block_count], &defaults)
}

pub(super) fn gemma2(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let global = rope(h, weights, RopeStyle::Halves)?;
    let local = scaled_sliding_rope(h, RopeStyle::Halves, YarnEdges::Whole)?;
    let defaults = Defaults { attn_softcap: 50.0, final_softcap: 30.0, layers_of_27b: 46 };
    spec(h, LayerNorms::SANDWICH, &global, &local, &windows_or(h, 4096, Some(PERIOD2))?, &defaults)
}

pub(super) fn gemma3(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let global = rope(h, weights, RopeStyle::Halves)?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::TenThousand)?;
    let defaults = Defaults { attn_softcap: 0.0, final_softcap: 0.0, layers_of_27b: 62 };
    spec(h, LayerNorms::SANDWICH, &global, &local, &windows_or(h, 0, Some(PERIOD3))?, &defaults)
}

/// Gemma 3 as an encoder: attention to both sides, and no output matrix.
pub(super) fn embedding(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let global = rope(h, weights, RopeStyle::Halves)?;
    let local = sliding_rope(h, RopeStyle::Halves, SlidingBase::TenThousand)?;
    let defaults = Defaults { attn_softcap: 0.0, final_softcap: 0.0, layers_of_27b: 0 };
    let windows = windows_or(h, 0, Some(PERIOD3))?;
    let mut model = spec(h, LayerNorms::SANDWICH, &global, &local, &windows, &defaults)?;
    let causal = h.bool_or(keys::ATTENTION_CAUSAL, false)?;
    for layer in &mut model.layers {
        if let Mixer::Attention(mixer) = &mut layer.mixer {
            mixer.causal = causal;
        }
    }
    Ok(ModelSpec { logits: false, ..model })
}

/// The factor of the scores: the largest model's heads are shorter than their share of the embedding, by which its
/// scores are scaled, and files do not say it.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn usual_scale(blocks: usize, layers_of_27b: usize, share: usize, head: usize) -> f32 {
    1.0 / (if blocks == layers_of_27b { share } else { head } as f32).sqrt()
}

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
fn spec(
    h: &Hparams,
    norms: LayerNorms,
    global: &RopeSpec,
    local: &RopeSpec,
    windows: &[Option<usize>],
    defaults: &Defaults,
) -> Result<ModelSpec, Error> {
    let softcap = factor_or(h, keys::ATTN_LOGIT_SOFTCAPPING, defaults.attn_softcap)?;
    let own_scale = factor(h, keys::ATTENTION_SCALE)?;
    let layers = windows.iter().enumerate().map(|(i, &window)| {
        let mut mixer = attention(h, i, Some(if window.is_some() { local } else { global }.clone()));
        let share = h.embedding_length.checked_div(h.head_count[i]).unwrap_or(h.key_length);
        let usual = usual_scale(h.block_count, defaults.layers_of_27b, share, h.key_length);
        mixer.scale = own_scale.unwrap_or(usual);
        (mixer.window, mixer.softcap) = (window, softcap);
        let mut block = layer(Mixer::Attention(mixer), gated(Activation::GeluTanh));
        block.norms = norms;
        block
    });
    let mut model = model(h, NormKind::Rms, layers.collect())?;
    model.embedding_scale = (h.embedding_length as f32).sqrt();
    model.logit_softcap = factor_or(h, keys::FINAL_LOGIT_SOFTCAPPING, defaults.final_softcap)?;
    Ok(model)
}
