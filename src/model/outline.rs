//! A model as described by its header: the network and its tensors. No weight is read, so that this is fast for files of any
//! size, including files whose weights are not on this machine.

use super::work::{Weight, used_share};
use super::{Header, Work};
use crate::arch::{self, Hparams};
use crate::cpu::{KvType, Sequence, SequenceOptions};
use crate::gguf::{Reader, TensorInfo};
use crate::network::{self, ModelSpec, Tensors};

/// The network and the tensors of a model.
pub struct Outline {
    hparams: Hparams,
    spec: ModelSpec,
    /// Tensors by the names of the architecture's tables, in the order of the file.
    tensors: Vec<(String, TensorInfo)>,
}

impl Outline {
    /// The outline of an opened file.
    ///
    /// # Errors
    /// When the architecture is not known, a key is missing or not valid, or a tensor is missing, unexpected or of another
    /// shape.
    pub fn of(reader: &Reader) -> Result<Self, arch::Error> {
        let header = Header::read(reader)?;
        let tensors: Vec<_> = header.tensors.into_iter().map(|(name, info)| (name, info.clone())).collect();
        let spec = header.family.spec(&header.hparams, &Named(&tensors))?;
        Ok(Self { hparams: header.hparams, spec, tensors })
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn hparams(&self) -> &Hparams {
        &self.hparams
    }

    /// The network. Values from tensors (rotary factors) are not those of the file.
    #[must_use]
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The tensors in use, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().map(|(_, info)| info)
    }

    /// The tensors of one layer, in the order of the file.
    pub fn layer_tensors(&self, layer: usize) -> impl Iterator<Item = (&str, &TensorInfo)> {
        let prefix = format!("blk.{layer}.");
        let named = self.tensors.iter().map(|(name, info)| (name.as_str(), info));
        named.filter_map(move |(name, info)| Some((name.strip_prefix(&prefix)?, info)))
    }

    /// Bytes of all tensors in use.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.tensors().map(TensorInfo::bytes).fold(0, u64::saturating_add)
    }

    /// The share of a tensor that one token uses (of experts, those that are chosen).
    #[must_use]
    pub fn used_share(&self, tensor: &TensorInfo) -> f64 {
        used_share(&tensor.name, &self.hparams)
    }

    /// An empty sequence, for computing the memory of longer ones.
    #[must_use]
    pub fn sequence(&self, options: SequenceOptions) -> Sequence {
        Sequence::new(&self.spec, options)
    }

    /// The work of its tokens.
    #[must_use]
    pub fn work(&self, kv_type: KvType) -> Work {
        let weights = self.tensors.iter().map(|(name, info)| Weight {
            name,
            ty: info.ty,
            rows: info.rows(),
            cols: info.cols(),
            bytes: info.bytes(),
        });
        let weights: Vec<Weight<'_>> = weights.collect();
        Work::with(&self.hparams, self.spec.last_stateful_layer(), &weights, kv_type)
    }
}

/// Tensors by name without their values, on which the shape of a network does not depend.
struct Named<'a>(&'a [(String, TensorInfo)]);

impl Tensors for Named<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, network::Error> {
        let Some((_, info)) = self.0.iter().find(|(found, _)| found == name) else { return Ok(None) };
        if info.elements() != len as u64 {
            let found = [info.rows(), info.cols()].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            return Err(network::Error::BadShape { name: name.to_owned(), found, expected: [1, len] });
        }
        Ok(Some(vec![1.0; len]))
    }
}
