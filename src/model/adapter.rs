//! Low-rank adapters (LoRA) in GGUF files, as llama.cpp's `convert_lora_to_gguf.py` and this program write them: two factors,
//! `NAME.lora_a` and `NAME.lora_b`, for each changed tensor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{AdapterProblem, Error};
use super::load::{Applied, Model, matrix};
use crate::cpu::Adapters;
use crate::gguf::{Metadata, Reader, Value, keys};
use crate::kernels::Matrix;

/// Tensors that no product of a matrix and rows is made with: changes of these are refused.
const NO_PRODUCTS: [&str; 8] = [
    "token_embd.",
    "position_embd.",
    "token_types.",
    "attn_kv_b.",
    "attn_k_b.",
    "attn_v_b.",
    "conv1d.",
    "shortconv.conv.",
];

/// A loaded adapter.
pub struct Adapter {
    path: PathBuf,
    architecture: String,
    /// LoRA alpha: the factor of every change is alpha divided by its rank, or 1 if alpha is zero.
    alpha: f32,
    /// Factors by the name of the changed tensor.
    factors: BTreeMap<String, Factors>,
}

#[derive(Default)]
struct Factors {
    a: Option<Factor>,
    b: Option<Factor>,
}

struct Factor {
    matrix: Matrix,
    shape: Vec<u64>,
}

impl Adapter {
    /// Reads the adapter at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is not an adapter of a known kind.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_reader(&Reader::open(path)?)
    }

    /// As [`Self::load`], for an opened file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_reader(reader: &Reader) -> Result<Self, Error> {
        let path = reader.path().to_owned();
        let failed = |problem| Error::Adapter { path: path.clone(), problem };
        let (architecture, alpha) = header(reader.metadata()).map_err(failed)?;
        let mut factors: BTreeMap<String, Factors> = BTreeMap::new();
        for tensor in reader.tensors() {
            let (name, is_a) = match tensor.name.rsplit_once('.') {
                Some((name, keys::LORA_A)) => (name, true),
                Some((name, keys::LORA_B)) => (name, false),
                _ => return Err(failed(AdapterProblem::NoFactor { name: tensor.name.clone() })),
            };
            let matrix = matrix(tensor, reader.data(tensor)?);
            let matrix =
                matrix.map_err(|source| Error::Tensor { path: path.clone(), name: tensor.name.clone(), source })?;
            let factor = Factor { matrix, shape: tensor.shape.clone() };
            let factors = factors.entry(name.to_owned()).or_default();
            *(if is_a { &mut factors.a } else { &mut factors.b }) = Some(factor);
        }
        if factors.is_empty() {
            return Err(failed(AdapterProblem::Empty));
        }
        Ok(Self { path, architecture, alpha, factors })
    }

    /// The changes of `model`'s tensors, multiplied by `scale`.
    fn changes(&self, model: &Model, scale: f32) -> Result<Adapters, AdapterProblem> {
        let architecture = &model.hparams().architecture;
        if self.architecture != *architecture {
            let (found, expected) = (self.architecture.clone(), architecture.clone());
            return Err(AdapterProblem::OtherArchitecture { found, expected });
        }
        let tensors: BTreeMap<&str, &Matrix> = model.tensors().iter().map(|(name, m)| (name.as_str(), m)).collect();
        let mut adapters = Adapters::default();
        for (name, factors) in &self.factors {
            let missing = |missing| AdapterProblem::OneFactor { name: name.clone(), missing };
            let a = factors.a.as_ref().ok_or_else(|| missing(keys::LORA_A))?;
            let b = factors.b.as_ref().ok_or_else(|| missing(keys::LORA_B))?;
            let tensor = *tensors.get(name.as_str()).ok_or_else(|| AdapterProblem::NoTensor { name: name.clone() })?;
            if !is_product(name) {
                return Err(AdapterProblem::NoProduct { name: name.clone() });
            }
            let matrices = stack(a, b, tensor).ok_or_else(|| AdapterProblem::BadShape {
                name: name.clone(),
                a: a.shape.clone(),
                b: b.shape.clone(),
                rows: tensor.rows(),
                cols: tensor.cols(),
            })?;
            #[allow(clippy::cast_precision_loss, reason = "a rank is a small number")]
            let rank = b.matrix.cols() as f32;
            let factor = if self.alpha == 0.0 { scale } else { scale * self.alpha / rank };
            adapters.add(name, a.matrix.clone(), b.matrix.clone(), matrices, factor);
        }
        Ok(adapters)
    }
}

impl Model {
    /// This model with a further adapter, whose changes are multiplied by `scale`. The copy shares the weights, which are not
    /// modified: products add the low-rank changes to their results.
    ///
    /// # Errors
    /// When it is an adapter of another model, or changes tensors in ways that are not supported.
    pub fn with_adapter(&self, adapter: &Adapter, scale: f32) -> Result<Self, Error> {
        let changes = adapter.changes(self, scale);
        let changes = changes.map_err(|problem| Error::Adapter { path: adapter.path.clone(), problem })?;
        let mut all = self.adapters().clone();
        all.extend(changes);
        let applied = Applied { path: adapter.path.clone(), scale };
        Ok(self.with(all, self.applied().iter().cloned().chain([applied]).collect()))
    }

    /// This model without adapters.
    #[must_use]
    pub fn without_adapters(&self) -> Self {
        self.with(Adapters::default(), Vec::new())
    }
}

/// The architecture and alpha of an adapter.
fn header(metadata: &Metadata) -> Result<(String, f32), AdapterProblem> {
    let text = |key: &'static str| metadata.get(key).and_then(Value::as_str);
    for (key, expected) in [(keys::GENERAL_TYPE, keys::ADAPTER), (keys::ADAPTER_TYPE, keys::LORA)] {
        let found = text(key);
        if found != Some(expected) {
            let found = found.map_or_else(|| "missing".to_owned(), |found| format!("{found:?}"));
            return Err(AdapterProblem::OtherKind { key, found, expected });
        }
    }
    if metadata.get(keys::ADAPTER_INVOCATION_TOKENS).is_some() {
        let problem = "adapters that a text calls (aLoRA) are not supported";
        return Err(AdapterProblem::BadKey { key: keys::ADAPTER_INVOCATION_TOKENS, problem });
    }
    let architecture = text(keys::GENERAL_ARCHITECTURE)
        .ok_or(AdapterProblem::BadKey { key: keys::GENERAL_ARCHITECTURE, problem: "missing" })?;
    let alpha = match metadata.get(keys::ADAPTER_LORA_ALPHA) {
        None => 0.0,
        Some(value) => {
            #[allow(clippy::cast_possible_truncation, reason = "the key is an f32")]
            let alpha = value.as_f64().map(|alpha| alpha as f32).filter(|alpha| alpha.is_finite());
            alpha.ok_or(AdapterProblem::BadKey { key: keys::ADAPTER_LORA_ALPHA, problem: "not a finite number" })?
        }
    };
    Ok((architecture.to_owned(), alpha))
}

/// Whether rows are multiplied with the tensor `name` in a product that adapters change.
fn is_product(name: &str) -> bool {
    name.ends_with(".weight") && !name.ends_with("norm.weight") && !NO_PRODUCTS.iter().any(|part| name.contains(part))
}

/// The number of matrices in the change, if its factors fit each other and the tensor.
fn stack(a: &Factor, b: &Factor, tensor: &Matrix) -> Option<usize> {
    let dimension = |factor: &Factor, i: usize| factor.shape.get(i).map_or(Some(1), |&n| usize::try_from(n).ok());
    let matrices = dimension(a, 2)?;
    let fits = a.shape.len() <= 3
        && b.shape.len() <= 3
        && matrices > 0
        && dimension(b, 2)? == matrices
        && dimension(a, 0)? == tensor.cols()
        && dimension(a, 1)? == dimension(b, 0)?
        && dimension(b, 1)?.checked_mul(matrices)? == tensor.rows();
    fits.then_some(matrices)
}
