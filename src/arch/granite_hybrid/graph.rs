//! The graph: norm before each part, Mamba 2 or attention (mostly without position embedding), SiLU; factors for
//! embeddings, residuals, scores and logits.

use super::mamba;
use crate::arch::graph::{attention, experts, gated, layer, model, rope};
use crate::arch::{Error, Hparams, keys};
use crate::network::{Activation, Gating, LayerSpec, Mixer, ModelSpec, NormKind, RopeStyle, Tensors};

pub(super) fn spec(h: &Hparams, weights: &dyn Tensors) -> Result<ModelSpec, Error> {
    let rope =
        h.bool_or(keys::ROPE_SCALING_FINETUNED, true)?.then(|| rope(h, weights, RopeStyle::Pairs)).transpose()?;
    let factor = |key: &str, default: f32| match h.f32_or(key, default)? {
        0.0 => Ok::<f32, Error>(default),
        factor => Ok(factor),
    };
    let scale = factor(keys::ATTENTION_SCALE, 0.0)?;
    let residual_scale = factor(keys::RESIDUAL_SCALE, 1.0)?;
    let feed_forward = if h.count_or(keys::EXPERT_COUNT, 0)? == 0 {
        gated(Activation::Silu)
    } else {
        experts(h, Activation::Silu, Gating::SoftmaxOfChosen, false)?
    };
    let layers = (0..h.block_count).map(|i| {
        let mixer = if h.head_count_kv[i] > 0 {
            let mut mixer = attention(h, i, rope.clone());
            if scale != 0.0 {
                mixer.scale = scale;
            }
            Mixer::Attention(mixer)
        } else {
            Mixer::Mamba2(mamba(h)?)
        };
        Ok(LayerSpec { residual_scale, ..layer(mixer, feed_forward.clone()) })
    });
    let layers = layers.collect::<Result<_, Error>>()?;
    Ok(ModelSpec {
        embedding_scale: factor(keys::EMBEDDING_SCALE, 1.0)?,
        logit_scale: 1.0 / factor(keys::LOGIT_SCALE, 1.0)?,
        ..model(h, NormKind::Rms, layers)?
    })
}
