//! The file that is exported: its header, its network and its tokenizer, all checked.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::error::{Error, TensorProblem};
use crate::arch;
use crate::formats;
use crate::gguf::{Reader, TensorInfo, Value, keys};
use crate::model::Header;
use crate::model::tokenizer::from_metadata;
use crate::network::{self, AttentionMixer, LatentMixer, Mixer, ModelSpec, Tensors};
use crate::tokenizer::{Model, SpecialIds, Tokenizer};

/// A model file.
pub(super) struct Source<'a> {
    pub(super) reader: &'a Reader,
    pub(super) header: Header<'a>,
    pub(super) spec: ModelSpec,
    pub(super) tokenizer: Tokenizer,
    by_name: HashMap<String, &'a TensorInfo>,
}

impl<'a> Source<'a> {
    /// Reads all but the weights.
    ///
    /// # Errors
    /// When the file is not a model that can be run.
    pub(super) fn new(reader: &'a Reader) -> Result<Self, Error> {
        let failed = |source| Error::Model { path: reader.path().to_owned(), source };
        let header = Header::read(reader).map_err(failed)?;
        let by_name: HashMap<String, &TensorInfo> = header.tensors.iter().cloned().collect();
        let known = FileTensors { reader, by_name: &by_name };
        let mut spec = header.family.spec(&header.hparams, &known).map_err(failed)?;
        // Layers that predict further tokens are left out.
        spec.prediction = None;
        let tokenizer = from_metadata(&header.metadata)
            .map_err(|source| Error::Vocabulary { path: reader.path().to_owned(), source })?;
        Ok(Self { reader, header, spec, tokenizer, by_name })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.reader.path().to_owned()
    }

    /// The error for a key without a setting in `class`.
    pub(super) fn key_fault(&self, key: String, class: &'static str) -> Error {
        let found = match self.header.metadata.get(&key) {
            None => "missing".into(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::F32(number)) => number.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(value) => match (value.as_i64(), value.as_array()) {
                (Some(number), _) => number.to_string(),
                (None, Some(list)) => format!("a list of {}", list.len()),
                (None, None) => "another number".into(),
            },
        };
        Error::Key { path: self.path(), key, found, class }
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The special tokens of the file, or the defaults of its kind of tokenizer.
    pub(super) fn special(&self) -> SpecialIds {
        let vocab = self.tokenizer.vocab();
        // llama.cpp uses id 11 if a file of this kind has none.
        let named = |id: Option<u32>, key: &str| {
            id.filter(|_| vocab.model != Model::Bpe || self.header.metadata.get(key).is_some())
        };
        let special = &vocab.special;
        SpecialIds {
            bos: named(special.bos, keys::TOKENIZER_BOS_ID),
            eos: named(special.eos, keys::TOKENIZER_EOS_ID),
            ..special.clone()
        }
    }

    /// The attention of all layers that have it, latent attention aside.
    pub(super) fn attention(&self) -> impl Iterator<Item = &AttentionMixer> {
        self.spec.layers.iter().filter_map(|layer| match &layer.mixer {
            Mixer::Attention(mixer) | Mixer::AttentionAndMamba2(mixer, _) => Some(mixer),
            _ => None,
        })
    }

    /// The latent attention of the first layer that has it.
    pub(super) fn latent(&self) -> Option<&LatentMixer> {
        self.spec.layers.iter().find_map(|layer| match &layer.mixer {
            Mixer::Latent(mixer) => Some(mixer),
            _ => None,
        })
    }

    /// Whether some layer has a rotary embedding.
    pub(super) fn rotates(&self) -> bool {
        self.attention().any(|mixer| mixer.rope.is_some()) || self.latent().is_some_and(|mixer| mixer.rope.is_some())
    }

    /// The base of the rotary embedding of layers with windows.
    pub(super) fn sliding_base(&self) -> Json {
        match self.header.hparams.get(arch::keys::ROPE_FREQ_BASE_SWA) {
            Some(Value::F32(base)) => float(*base),
            _ => 10_000.into(),
        }
    }

    /// The base of the rotary embedding, `rope_theta`.
    pub(super) fn rotary_base(&self) -> Json {
        match self.header.hparams.get(arch::keys::ROPE_FREQ_BASE) {
            Some(Value::F32(base)) => float(*base),
            _ => 10_000.0.into(),
        }
    }

    /// The numbers of a small tensor.
    ///
    /// # Errors
    /// When there is no such tensor, or it cannot be decoded or read.
    pub(super) fn values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let unknown = || Error::Tensor { path: self.path(), name: name.to_owned(), problem: TensorProblem::Factors };
        let tensor = self.by_name.get(name).ok_or_else(unknown)?;
        values(self.reader, tensor).ok_or_else(unknown)
    }
}

/// The numbers of a tensor, if it can be decoded and read.
fn values(reader: &Reader, tensor: &TensorInfo) -> Option<Vec<f32>> {
    formats::codec(tensor.ty)?;
    let mut numbers = vec![0.0; usize::try_from(tensor.elements()).ok()?];
    formats::decode(tensor.ty, &reader.data(tensor).ok()?, &mut numbers);
    Some(numbers)
}

/// The tensors of a file, as a network description reads them.
struct FileTensors<'a> {
    reader: &'a Reader,
    by_name: &'a HashMap<String, &'a TensorInfo>,
}

impl Tensors for FileTensors<'_> {
    fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, network::Error> {
        let Some(tensor) = self.by_name.get(name) else { return Ok(None) };
        if tensor.elements() != len as u64 {
            let found = [tensor.rows(), tensor.cols()].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            return Err(network::Error::BadShape { name: name.to_owned(), found, expected: [1, len] });
        }
        Ok(values(self.reader, tensor))
    }
}

/// The shortest decimal for this number in single precision: 0.00001, not 9.99999974737875e-06.
pub(super) fn float(number: f32) -> Json {
    number.to_string().parse::<f64>().unwrap_or(f64::from(number)).into()
}

/// The share of a head, as few digits as give the length again.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths of heads"
)]
pub(super) fn share(rotated: usize, head: usize) -> Json {
    let exact = rotated as f64 / head as f64;
    let rounded = (1..12).map(|digits| {
        let power = 10f64.powi(digits);
        (exact * power).ceil() / power
    });
    rounded.chain([exact]).find(|share| (share * head as f64) as usize == rotated).unwrap_or(exact).into()
}
