//! Mixers, which combine the positions of a sequence in a layer: one file for each kind.

mod attention;
mod delta_net;
mod indexer;
mod kimi_delta;
mod latent;
mod mamba1;
mod mamba2;
mod short_conv;

use super::Weights;
use super::batch::Batch;
use crate::kernels::Store;
use crate::network::{Error, Mixer, ModelSpec};

/// A mixer with its weights.
pub(super) enum MixerWeights {
    None,
    Attention(attention::Attention),
    Latent(latent::Latent),
    DeltaNet(delta_net::DeltaNet),
    KimiDelta(kimi_delta::KimiDelta),
    Mamba1(mamba1::Mamba1),
    Mamba2(mamba2::Mamba2),
    ShortConv(short_conv::ShortConv),
    AttentionAndMamba2(Box<(attention::Attention, mamba2::Mamba2)>),
}

impl MixerWeights {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, mixer: &Mixer) -> Result<Self, Error> {
        Ok(match mixer {
            Mixer::None => Self::None,
            Mixer::Attention(spec) => Self::Attention(attention::Attention::load(w, prefix, model, spec)?),
            Mixer::Latent(spec) => Self::Latent(latent::Latent::load(w, prefix, model, spec)?),
            Mixer::DeltaNet(spec) => Self::DeltaNet(delta_net::DeltaNet::load(w, prefix, model, spec)?),
            Mixer::KimiDelta(spec) => Self::KimiDelta(kimi_delta::KimiDelta::load(w, prefix, model, spec)?),
            Mixer::Mamba1(spec) => Self::Mamba1(mamba1::Mamba1::load(w, prefix, model, spec)?),
            Mixer::Mamba2(spec) => Self::Mamba2(mamba2::Mamba2::load(w, prefix, model, spec)?),
            Mixer::ShortConv(spec) => Self::ShortConv(short_conv::ShortConv::load(w, prefix, model, spec)?),
            Mixer::AttentionAndMamba2(attention, mamba) => Self::AttentionAndMamba2(Box::new((
                attention::Attention::load(w, prefix, model, attention)?,
                mamba2::Mamba2::load(w, prefix, model, mamba)?,
            ))),
        })
    }

    /// Whether the output of a position never depends on later positions.
    pub(super) fn is_causal(&self) -> bool {
        !matches!(self, Self::Attention(mixer) if !mixer.is_causal())
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// From the batch's rows `x`, `[rows, embedding]`, sets or adds to `out`, `[output_rows rows, embedding]`, and narrows
    /// the batch to the rows that leave the layer.
    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        match self {
            Self::None => batch.keep_output_rows(),
            Self::Attention(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::Latent(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::DeltaNet(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::KimiDelta(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::Mamba1(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::Mamba2(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::ShortConv(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::AttentionAndMamba2(both) => {
                both.1.mix(batch, layer, x, store, out);
                both.0.apply(batch, layer, x, Store::Add, out);
            }
        }
    }
}
