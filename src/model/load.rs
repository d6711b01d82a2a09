//! Loads a model: checks the file's tensors against the table of its architecture and builds the network from them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dialects::{self, Translated};
use super::{Error, PredictionError, Warning, layouts, resident, tokenizer};
use crate::arch::{self, Family, Hparams, TensorRule};
use crate::bytes::Bytes;
use crate::cpu::{Adapters, Decoder, Prediction, Run, Weights};
use crate::gguf::{Metadata, Reader, TensorInfo, layer_of};
use crate::kernels::{Matrix, Pool};
use crate::network::{self, ModelSpec};
use crate::tokenizer::Tokenizer;

/// Where weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loading {
    /// In the mapped file: available at once, shared with other programs, read on demand.
    #[default]
    Map,
    /// In memory of this process, in large pages if the system has them: a little faster once loaded.
    Copy,
}

/// A model: network, tokenizer, metadata, and adapters. A clone shares all of these.
#[derive(Clone)]
pub struct Model {
    loaded: Arc<Loaded>,
    network: Arc<Network>,
    adapters: Arc<Adapters>,
    /// The files that these are of.
    applied: Arc<[Applied]>,
}

/// An adapter that changes a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its file.
    pub path: PathBuf,
    /// How strong its changes are: 1 is as the file says.
    pub scale: f32,
}

/// What is computed, and with which tensors.
pub(super) struct Network {
    pub(super) decoder: Decoder,
    pub(super) tensors: Vec<(String, Matrix)>,
}

impl Network {
    /// The network of `spec`.
    pub(super) fn new(spec: ModelSpec, tensors: Vec<(String, Matrix)>) -> Result<Self, network::Error> {
        let mut weights = Weights::default();
        tensors.iter().for_each(|(name, matrix)| weights.insert(name, matrix.clone()));
        Ok(Self { decoder: Decoder::load(spec, &weights)?, tensors })
    }
}

/// The content of a file beside its network.
struct Loaded {
    prediction: Result<Arc<Prediction>, PredictionError>,
    tokenizer: Tokenizer,
    hparams: Hparams,
    unread: Vec<String>,
    warnings: Vec<Warning>,
    weight_bytes: u64,
    parameters: u64,
}

impl Model {
    /// Opens the model at `path` (a file, or the first of a split one).
    ///
    /// # Errors
    /// When it cannot be read, is not valid, or has an unknown architecture.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_reader(&Reader::open(path)?)
    }

    /// Loads the model of an opened file.
    ///
    /// # Errors
    /// As [`Self::load`], except for opening the file.
    pub fn from_reader(reader: &Reader) -> Result<Self, Error> {
        Self::from_reader_with(reader, Loading::default())
    }

    /// As [`Self::from_reader`], with a choice of where weights are kept.
    ///
    /// # Errors
    /// As [`Self::load`]; also when there is no memory for the weights.
    pub fn from_reader_with(reader: &Reader, loading: Loading) -> Result<Self, Error> {
        let path = reader.path();
        let arch_error = |source| Error::Architecture { path: path.to_owned(), source };
        // A reader that accepts any type may have such tensors.
        if let Some(tensor) = reader.unknown_tensors().first() {
            let (name, type_id) = (tensor.name.clone(), tensor.type_id);
            return Err(Error::UnknownType { path: path.to_owned(), name, type_id });
        }
        let Header { metadata, hparams, family, tensors, predicting, mut warnings } =
            Header::read(reader).map_err(arch_error)?;
        let tensors = matrices(reader, tensors, loading)?;
        let mut weights = Weights::default();
        tensors.iter().for_each(|(name, matrix)| weights.insert(name, matrix.clone()));
        // What is wrong with these layers is of no concern to those who do not ask for them.
        let predicting = predicting.and_then(|tensors| insert_mapped(reader, tensors, &mut weights));
        let spec = family.spec(&hparams, &weights).map_err(arch_error)?;
        let unread = hparams.unread().map_err(arch_error)?;
        let network = Network::new(spec, tensors).map_err(|source| Error::Network { path: path.to_owned(), source })?;
        let prediction = predicting.and_then(|()| {
            let architecture = hparams.architecture.clone();
            let prediction = network.decoder.prediction(&weights)?;
            Ok(Arc::new(prediction.ok_or(PredictionError::NotComputed { architecture })?))
        });
        let tokenizer = tokenizer::from_metadata_with(&metadata, &mut warnings)
            .map_err(|source| Error::Tokenizer { path: path.to_owned(), source })?;
        let weight_bytes = reader.tensors().iter().map(TensorInfo::bytes).sum();
        let parameters = reader.parameters();
        let loaded = Loaded { prediction, tokenizer, hparams, unread, warnings, weight_bytes, parameters };
        let (loaded, network) = (Arc::new(loaded), Arc::new(network));
        Ok(Self { loaded, network, adapters: Arc::default(), applied: Arc::default() })
    }

    /// This model with `adapters`, which are those of the files `applied`, in place of those that it has.
    pub(super) fn with(&self, adapters: Adapters, applied: Vec<Applied>) -> Self {
        Self { adapters: Arc::new(adapters), applied: applied.into(), ..self.clone() }
    }

    /// This model with another network of the same shape.
    pub(super) fn with_network(&self, network: Network) -> Self {
        Self { network: Arc::new(network), ..self.clone() }
    }

    /// The adapters that change it, in the order in which they were added.
    #[must_use]
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// Calls `visit` with the bytes of the adapters, for a fingerprint.
    pub(crate) fn visit_adapters(&self, visit: &mut dyn FnMut(&[u8])) {
        self.adapters.visit_bytes(visit);
    }

    /// The changes of the model's matrices.
    pub(super) fn adapters(&self) -> &Adapters {
        &self.adapters
    }

    /// The context for a forward pass of this model.
    #[must_use]
    pub fn run<'a>(&'a self, pool: &'a Pool) -> Run<'a> {
        Run { adapters: Some(&*self.adapters).filter(|adapters| !adapters.is_empty()), ..Run::new(pool) }
    }

    /// The network.
    #[must_use]
    pub fn decoder(&self) -> &Decoder {
        &self.network.decoder
    }

    /// The layer that predicts further tokens (MTP), which nothing runs unless it is asked to. Its weights stay in the mapped file.
    ///
    /// # Errors
    /// When the file has none, or not all of its tensors in the right shapes.
    pub fn prediction(&self) -> Result<&Arc<Prediction>, &PredictionError> {
        self.loaded.prediction.as_ref()
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.loaded.tokenizer
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn hparams(&self) -> &Hparams {
        &self.loaded.hparams
    }

    /// Keys of the architecture that were not used.
    #[must_use]
    pub fn unread_keys(&self) -> &[String] {
        &self.loaded.unread
    }

    /// Warnings about the file.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.loaded.warnings
    }

    /// All metadata of the file.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.loaded.hparams.metadata()
    }

    /// All tensors in use, by name. A tensor of more than two dimensions is a matrix of all its rows.
    #[must_use]
    pub fn tensors(&self) -> &[(String, Matrix)] {
        &self.network.tensors
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.loaded.weight_bytes
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.loaded.parameters
    }
}

/// A model's header with the names of the architecture's tables.
pub(crate) struct Header<'a> {
    /// The metadata, translated from the names of other programs.
    pub(crate) metadata: Metadata,
    pub(crate) hparams: Hparams,
    pub(crate) family: &'static Family,
    /// The tensors in use, in the order of the file: the name in the table, and the tensor.
    pub(crate) tensors: Vec<(String, &'a TensorInfo)>,
    /// The tensors of layers that predict further tokens (MTP), or what is wrong with them.
    predicting: Result<Vec<(String, &'a TensorInfo)>, PredictionError>,
    warnings: Vec<Warning>,
}

impl<'a> Header<'a> {
    /// Finds the architecture, and the row of its table for each tensor. A tensor without a row is an error that names it; for
    /// layers that are run on demand (MTP), it is kept for those who ask for them.
    pub(crate) fn read(reader: &'a Reader) -> Result<Self, arch::Error> {
        let Translated { metadata, names, warnings } = dialects::translate(reader);
        let named: Vec<_> =
            reader.tensors().iter().zip(names).filter_map(|(tensor, name)| Some((name?, tensor))).collect();
        let hparams = Hparams::from_metadata(&metadata)?;
        let family = arch::by_name(&hparams.architecture)?;
        let mut rules = family.tensors(&hparams)?;
        let has: HashSet<String> = named.iter().map(|(name, _)| name.clone()).collect();
        layouts::adapt(&mut rules, &hparams, &|name| has.contains(name));
        let by_name: HashMap<&str, &TensorRule> = rules.iter().map(|rule| (rule.name.as_str(), rule)).collect();
        let checked = |named: Vec<(String, &'a TensorInfo)>, predicts: bool| {
            for (name, info) in &named {
                let Some(rule) = by_name.get(name.as_str()) else {
                    let (name, architecture) = (info.name.clone(), hparams.architecture.clone());
                    return Err(arch::Error::UnexpectedTensor { name, architecture });
                };
                check_shape(rule, info)?;
            }
            let belongs = |rule: &&TensorRule| is_prediction(&rule.name, &hparams) == predicts;
            match rules.iter().filter(belongs).find(|rule| rule.required && !has.contains(&rule.name)) {
                Some(rule) => Err(arch::Error::MissingTensor { name: rule.name.clone() }),
                None => Ok(named),
            }
        };
        let (predicting, tensors): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|(name, _)| is_prediction(name, &hparams));
        let tensors = checked(tensors, false)?;
        let predicting = if predicting.is_empty() {
            Err(PredictionError::None)
        } else {
            checked(predicting, true).map_err(PredictionError::from)
        };
        Ok(Self { metadata, hparams, family, tensors, predicting, warnings })
    }
}

/// The tensors of a header as matrices.
fn matrices(
    reader: &Reader,
    tensors: Vec<(String, &TensorInfo)>,
    loading: Loading,
) -> Result<Vec<(String, Matrix)>, Error> {
    let wanted: Vec<&TensorInfo> = tensors.iter().map(|(_, info)| *info).collect();
    let bytes = match loading {
        Loading::Map => wanted.iter().map(|info| reader.data(info)).collect::<Result<_, _>>()?,
        Loading::Copy => resident::copy(reader, &wanted)?,
    };
    let matrices = tensors.into_iter().zip(bytes).map(|((name, info), bytes)| match matrix(info, bytes) {
        Ok(matrix) => Ok((name, matrix)),
        Err(source) => {
            let (path, name) = (reader.path().to_owned(), info.name.clone());
            Err(Error::Tensor { path, name, source })
        }
    });
    matrices.collect()
}

/// Adds tensors to `weights` as they lie in the mapped file.
fn insert_mapped(
    reader: &Reader,
    tensors: Vec<(String, &TensorInfo)>,
    weights: &mut Weights,
) -> Result<(), PredictionError> {
    for (name, info) in tensors {
        let matrix = matrix(info, reader.data(info)?)
            .map_err(|source| PredictionError::Tensor { name: info.name.clone(), source })?;
        weights.insert(name, matrix);
    }
    Ok(())
}

/// Whether a tensor is part of an MTP layer.
fn is_prediction(name: &str, h: &Hparams) -> bool {
    layer_of(name).is_some_and(|block| (h.block_count..h.block_count + h.next_n).contains(&block))
}

fn check_shape(rule: &TensorRule, info: &TensorInfo) -> Result<(), arch::Error> {
    // Some writers leave out trailing dimensions of one.
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
pub(super) fn matrix(info: &TensorInfo, bytes: Bytes) -> Result<Matrix, crate::kernels::Error> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Matrix::new(info.ty, size(info.rows()), size(info.cols()), bytes)
}
