//! What mixes the positions of a sequence in a block: one file a kind.

mod attention;
mod latent;

use super::decoder::Batch;
use super::sequence::StateSpec;
use super::{Error, Mixer, ModelSpec, SequenceOptions, Weights};
use crate::kernels::Store;

/// A mixer with its weights.
pub(super) enum MixerWeights {
    Attention(attention::Attention),
    Latent(latent::Latent),
}

impl MixerWeights {
    pub(super) fn load(w: &Weights, prefix: &str, model: &ModelSpec, mixer: &Mixer) -> Result<Self, Error> {
        Ok(match mixer {
            Mixer::Attention(spec) => Self::Attention(attention::Attention::load(w, prefix, model, spec)?),
            Mixer::Latent(spec) => Self::Latent(latent::Latent::load(w, prefix, model, spec)?),
        })
    }

    pub(super) fn state(&self, options: SequenceOptions) -> StateSpec {
        match self {
            Self::Attention(mixer) => mixer.state(options),
            Self::Latent(mixer) => mixer.state(options),
        }
    }

    /// Sets or adds to `out`, `[rows, embedding]`, from the batch's rows `x`, `[rows, embedding]`.
    pub(super) fn apply(&self, batch: &mut Batch<'_, '_>, block: usize, x: &[f32], store: Store, out: &mut [f32]) {
        match self {
            Self::Attention(mixer) => mixer.apply(batch, block, x, store, out),
            Self::Latent(mixer) => mixer.apply(batch, block, x, store, out),
        }
    }
}
