//! The graph: norms around both parts, scores without a factor, rotary embeddings of halves: of few pairs in full
//! attention (the factors of the others stand still), of all in windows.

use super::Blocks;
use crate::arch::graph::{SlidingBase, attention, factor_or, layer, model, rope, routed, sliding_rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{
    Activation, Dense, FeedForward, Gate, Gating, LayerInputs, LayerNorms, LayerSpec, Mixer, ModelSpec, NormKind,
    RopeStyle, Tensors,
};

#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let kinds = Blocks::new(h)?;
    let full = rope(h, weights, RopeStyle::Halves)?;
    let sliding = sliding_rope(h, RopeStyle::Halves, SlidingBase::TenThousand)?;
    let window = h.positive(keys::SLIDING_WINDOW)?;
    let dense = Dense { activation: Activation::GeluTanh, gate: Gate::Separate };
    let feed_forward = if kinds.experts == 0 {
        FeedForward::Dense(dense)
    } else {
        FeedForward::DenseAndExperts(dense, routed(h, Activation::GeluTanh, Gating::Softmax, true)?)
    };
    let layers = (0..h.block_count).map(|i| {
        let slides = kinds.slides[i];
        let mut mixer = attention(h, i, Some(if slides { sliding.clone() } else { full.clone() }));
        (mixer.k_dim, mixer.v_dim) = (kinds.head[i], kinds.head[i]);
        mixer.scale = 1.0;
        mixer.window = slides.then_some(window);
        mixer.value_norm = true;
        mixer.shares_kv_of = kinds.shares[i];
        let layer = layer(Mixer::Attention(mixer), feed_forward.clone());
        LayerSpec { norms: LayerNorms::SANDWICH, ..layer }
    });
    let own = h.count(keys::EMBEDDING_LENGTH_PER_LAYER_INPUT)?;
    Ok(ModelSpec {
        embedding_scale: (h.embedding_length as f32).sqrt(),
        logit_softcap: factor_or(h, keys::FINAL_LOGIT_SOFTCAPPING, 30.0)?,
        layer_inputs: (own > 0).then_some(LayerInputs { length: own }),
        ..model(h, NormKind::Rms, layers.collect())?
    })
}
