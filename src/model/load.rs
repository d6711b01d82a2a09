//! A file's tensors, checked against its architecture's table and put together to a network.

use std::collections::HashMap;
use std::path::Path;

use super::{Error, tokenizer};
use crate::arch::{self, Hparams, TensorRule};
use crate::bytes::Bytes;
use crate::gguf::{Metadata, Reader, TensorInfo};
use crate::kernels::Matrix;
use crate::nn::{Decoder, Weights};
use crate::tokenizer::Tokenizer;

/// Where weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loading {
    /// In the mapped file: instant, shared with other programs, read on demand.
    #[default]
    Map,
}

/// A model: network, tokenizer, and what its file says about it.
pub struct Model {
    decoder: Decoder,
    tokenizer: Tokenizer,
    hparams: Hparams,
    weight_bytes: u64,
    parameters: u64,
}

impl Model {
    /// Opens the model at `path` (a file, or the first of a split one).
    ///
    /// # Errors
    /// When it cannot be read, is not valid, or is of an unknown architecture.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_reader(&Reader::open(path)?)
    }

    /// Puts the model of an opened file together.
    ///
    /// # Errors
    /// As [`Self::load`], but for reading.
    pub fn from_reader(reader: &Reader) -> Result<Self, Error> {
        let path = reader.path();
        let arch_error = |source| Error::Architecture { path: path.to_owned(), source };
        let hparams = Hparams::from_metadata(reader.metadata()).map_err(arch_error)?;
        let family = arch::by_name(&hparams.architecture).map_err(arch_error)?;
        let rules = family.tensors(&hparams).map_err(arch_error)?;
        let weights = weights(reader, &hparams, &rules)?;
        let spec = family.decoder(&hparams, &weights).map_err(arch_error)?;
        let decoder =
            Decoder::load(spec, &weights).map_err(|source| Error::Network { path: path.to_owned(), source })?;
        let tokenizer = tokenizer::from_metadata(reader.metadata())
            .map_err(|source| Error::Tokenizer { path: path.to_owned(), source })?;
        let weight_bytes = reader.tensors().iter().map(TensorInfo::bytes).sum();
        Ok(Self { decoder, tokenizer, hparams, weight_bytes, parameters: reader.parameters() })
    }

    /// The network.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// All metadata of the file.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.hparams.metadata()
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }
}

/// The tensors that the rules ask for. Any other is refused by name; blocks that are not run (prediction of further
/// tokens) are passed over.
fn weights(reader: &Reader, h: &Hparams, rules: &[TensorRule]) -> Result<Weights, Error> {
    let path = reader.path();
    let failed = |source| Error::Architecture { path: path.to_owned(), source };
    let by_name: HashMap<&str, &TensorRule> = rules.iter().map(|rule| (rule.name.as_str(), rule)).collect();
    let mut weights = Weights::default();
    for info in reader.tensors() {
        let Some(rule) = by_name.get(info.name.as_str()) else {
            if block_of(&info.name).is_some_and(|block| block >= h.block_count) {
                continue;
            }
            let (name, architecture) = (info.name.clone(), h.architecture.clone());
            return Err(failed(arch::Error::UnexpectedTensor { name, architecture }));
        };
        check_shape(rule, info).map_err(failed)?;
        let matrix = matrix(info, reader.data(info)?).map_err(|source| Error::Tensor {
            path: path.to_owned(),
            name: info.name.clone(),
            source,
        })?;
        weights.insert(&info.name, matrix);
    }
    match rules.iter().find(|rule| rule.required && !weights.has(&rule.name)) {
        Some(rule) => Err(failed(arch::Error::MissingTensor { name: rule.name.clone() })),
        None => Ok(weights),
    }
}

/// The number in `blk.N.`.
fn block_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

fn check_shape(rule: &TensorRule, info: &TensorInfo) -> Result<(), arch::Error> {
    // Trailing dimensions of one are written by some and left out by others.
    let trimmed = |shape: &[u64]| {
        let kept = shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
        shape[..kept.min(shape.len())].to_vec()
    };
    let expected: Vec<u64> = rule.shape.iter().map(|&n| n as u64).collect();
    if trimmed(&info.shape) == trimmed(&expected) {
        return Ok(());
    }
    Err(arch::Error::BadShape { name: info.name.clone(), found: info.shape.clone(), expected })
}

/// A tensor of any number of dimensions as a matrix of its rows.
fn matrix(info: &TensorInfo, bytes: Bytes) -> Result<Matrix, crate::kernels::Error> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Matrix::new(info.ty, size(info.rows()), size(info.cols()), bytes)
}
