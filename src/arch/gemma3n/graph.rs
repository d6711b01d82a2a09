//! The graph: norms around both parts, scores without a factor, values normed, rotary embeddings of halves with a base of
//! their own in windows, a cut through the gates of some layers.

use super::tensors::slides;
use crate::arch::graph::{SlidingBase, attention, factor_or, gated, layer, model, rope, shared_caches, sliding_rope};
use crate::arch::{Error, Hparams, keys};
use crate::gguf::Value;
use crate::network::{
    Activation, AltUp, LayerInputs, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle, Tensors,
};

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let full = rope(h, weights, RopeStyle::Halves)?;
    let sliding = sliding_rope(h, RopeStyle::Halves, SlidingBase::TenThousand)?;
    let window = h.positive(keys::SLIDING_WINDOW)?;
    let slides = slides(h)?;
    let (shares, cuts) = (shared_caches(h, &slides)?, gate_cuts(h)?);
    let layers = (0..h.block_count).map(|i| {
        let mut mixer = attention(h, i, Some(if slides[i] { &sliding } else { &full }.clone()));
        mixer.scale = 1.0;
        mixer.window = slides[i].then_some(window);
        mixer.value_norm = true;
        mixer.shares_kv_of = shares[i];
        let layer = layer(Mixer::Attention(mixer), gated(Activation::GeluTanh));
        LayerSpec { norms: LayerNorms::SANDWICH, gate_cut: cuts[i], ..layer }
    });
    let (streams, active) = (h.positive(keys::ALTUP_NUM_INPUTS)?, h.count_or(keys::ALTUP_ACTIVE_IDX, 0)?);
    if active >= streams {
        return Err(h.bad_key(keys::ALTUP_ACTIVE_IDX, "less than altup.num_inputs"));
    }
    let length = h.positive(keys::EMBEDDING_LENGTH_PER_LAYER_INPUT)?;
    Ok(ModelSpec {
        embedding_scale: (h.embedding_length as f32).sqrt(),
        logit_softcap: factor_or(h, keys::FINAL_LOGIT_SOFTCAPPING, 0.0)?,
        layer_inputs: Some(LayerInputs { length }),
        altup: Some(AltUp { streams, active }),
        ..model(h, NormKind::Rms, layers.collect())?
    })
}

/// Above how many deviations from their mean the gates of each layer count, where not all do.
#[allow(clippy::cast_possible_truncation, reason = "the file holds single precision")]
fn gate_cuts(h: &Hparams) -> Result<Vec<Option<f32>>, Error> {
    let key = keys::ACTIVATION_SPARSITY_SCALE;
    let bad = || h.bad_key(key, "a number for each block");
    let cuts: Vec<f32> = match h.get(key) {
        None => return Ok(vec![None; h.block_count]),
        Some(Value::Array(cuts)) => cuts.iter().filter_map(|cut| cut.as_f64()).map(|cut| cut as f32).collect(),
        Some(_) => return Err(bad()),
    };
    if cuts.len() != h.block_count || cuts.iter().any(|cut| cut.is_nan()) {
        return Err(bad());
    }
    Ok(cuts.into_iter().map(|cut| Some(cut).filter(|cut| cut.is_finite())).collect())
}
