//! A model as described by its header: the network and its tensors. No weight is read, so that this is fast for files of any
//! size, including files whose weights are not on this machine.

use std::collections::HashMap;

use super::work::{OUTPUTS, Weight, used_share};
use super::{Header, Work};
use crate::arch::{self, Hparams};
use crate::cpu::{KvType, PagePool, Sequence, SequenceOptions};
use crate::gguf::{Reader, TensorInfo, layer_and_part, layer_of};
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
        let spec = {
            let named = Named(tensors.iter().map(|(name, info)| (name.as_str(), info)).collect());
            header.family.spec(&header.hparams, &named)?
        };
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

    /// The matrix that makes logits.
    #[must_use]
    pub fn output(&self) -> Option<&TensorInfo> {
        OUTPUTS.into_iter().find_map(|name| self.tensors.iter().find(|(found, _)| found == name)).map(|(_, info)| info)
    }

    /// The tensors of all layers, in the order of the file.
    pub fn all_layer_tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().filter(|(name, _)| layer_of(name).is_some()).map(|(_, info)| info)
    }

    /// The tensors of one layer, in the order of the file.
    pub fn layer_tensors(&self, layer: usize) -> impl Iterator<Item = (&str, &TensorInfo)> {
        let named = self.tensors.iter().filter_map(|(name, info)| Some((layer_and_part(name)?, info)));
        named.filter(move |((found, _), _)| *found == layer).map(|((_, part), info)| (part, info))
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
        Sequence::new(&self.spec, options, &PagePool::unlimited())
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

/// Tensors by name, whose values are not known: the shape of a network does not depend on them.
struct Named<'a>(HashMap<&'a str, &'a TensorInfo>);

impl Tensors for Named<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, network::Error> {
        let Some(info) = self.0.get(name) else { return Ok(None) };
        if info.elements() != len as u64 {
            let found = [info.rows(), info.cols()].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
            return Err(network::Error::BadShape { name: name.to_owned(), found, expected: [1, len] });
        }
        Ok(Some(vec![1.0; len]))
    }
}
