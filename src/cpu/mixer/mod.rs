//! Mixers, which combine the positions of a sequence in a layer: one file for each kind.

mod attention;
mod delta_net;
mod latent;
mod mamba2;
mod short_conv;

use super::Weights;
use super::batch::Batch;
use crate::kernels::Store;
use crate::network::{Error, Mixer, ModelSpec};

/// A mixer with its weights.
pub(super) enum MixerWeights {
    Attention(attention::Attention),
    Latent(latent::Latent),
    DeltaNet(delta_net::DeltaNet),
    Mamba2(mamba2::Mamba2),
    ShortConv(short_conv::ShortConv),
}

impl MixerWeights {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, mixer: &Mixer) -> Result<Self, Error> {
        Ok(match mixer {
            Mixer::Attention(spec) => Self::Attention(attention::Attention::load(w, prefix, model, spec)?),
            Mixer::Latent(spec) => Self::Latent(latent::Latent::load(w, prefix, model, spec)?),
            Mixer::DeltaNet(spec) => Self::DeltaNet(delta_net::DeltaNet::load(w, prefix, model, spec)?),
            Mixer::Mamba2(spec) => Self::Mamba2(mamba2::Mamba2::load(w, prefix, model, spec)?),
            Mixer::ShortConv(spec) => Self::ShortConv(short_conv::ShortConv::load(w, prefix, model, spec)?),
        })
    }

    /// Whether the output of a position never depends on later positions.
    pub(super) fn is_causal(&self) -> bool {
        !matches!(self, Self::Attention(mixer) if !mixer.is_causal())
    }

    /// From the batch's rows `x`, `[rows, embedding]`, sets or adds to `out`, `[output rows, embedding]`. Then drops
    /// the rows from the batch whose output is not needed.
    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, layer: usize, x: &[f32], store: Store, out: &mut [f32]) {
        match self {
            Self::Attention(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::Latent(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::DeltaNet(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::Mamba2(mixer) => mixer.apply(batch, layer, x, store, out),
            Self::ShortConv(mixer) => mixer.apply(batch, layer, x, store, out),
        }
    }
}
