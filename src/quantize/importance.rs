//! An importance matrix as the quantizer uses it: weights for the columns of each tensor, and the metadata about their origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{Error, FileType};
use crate::TensorType;
use crate::gguf::{Metadata, TensorSpec};
use crate::imatrix::ImportanceMatrix;

/// Maximum bytes of a text under a key `quantize.imatrix.*`; llama-quantize truncates them.
const MAX_TEXT_BYTES: usize = 127;

/// Weights of the errors of each tensor, and their origin.
#[derive(Clone, PartialEq)]
pub struct Importance {
    name: String,
    dataset: Option<String>,
    chunks: u32,
    /// `[matrices, cols]` of each tensor.
    weights: BTreeMap<String, Arc<[f32]>>,
}

impl fmt::Debug for Importance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Importance").field("name", &self.name).field("entries", &self.weights.len()).finish()
    }
}

impl Importance {
    /// The weights of `matrix`, which was read from the file `name`: those of the tensors whose names contain one of
    /// `include` (of all, where that is empty) and none of `exclude`.
    ///
    /// # Errors
    /// When no name contains one of `include` or `exclude`, nothing is left, or a weight is NaN or infinite.
    pub fn new(name: &str, matrix: &ImportanceMatrix, include: &[String], exclude: &[String]) -> Result<Self, Error> {
        let refused = |problem: String| Error::Importance { path: name.into(), problem };
        for part in include.iter().chain(exclude) {
            if !matrix.entries.keys().any(|name| name.contains(part)) {
                return Err(refused(format!("no tensor's name contains {part}")));
            }
        }
        let contains = |name: &str, parts: &[String]| parts.iter().any(|part| name.contains(part));
        let wanted = |name: &str| (include.is_empty() || contains(name, include)) && !contains(name, exclude);
        let mut weights = BTreeMap::new();
        for (tensor, entry) in matrix.entries.iter().filter(|(name, _)| wanted(name)) {
            let own = entry.weights();
            if own.iter().any(|weight| !weight.is_finite()) {
                return Err(refused(format!("tensor {tensor} has a weight that is NaN or infinite")));
            }
            weights.insert(tensor.clone(), own.into());
        }
        if weights.is_empty() {
            return Err(refused("no tensor is left".into()));
        }
        Ok(Self { name: name.to_owned(), dataset: matrix.datasets.first().cloned(), chunks: matrix.chunks, weights })
    }

    /// The weights of a tensor, `[matrices, cols]`, by its name in the source; `spec` is the tensor of the output.
    ///
    /// # Errors
    /// When their number is not that of the columns of all matrices of the tensor. The token embedding is not checked, since it is
    /// looked up and not multiplied.
    pub(super) fn of(&self, path: &Path, name: &str, spec: &TensorSpec) -> Result<Option<Arc<[f32]>>, Error> {
        let Some(weights) = self.weights.get(name) else { return Ok(None) };
        let size = |dimension: usize| spec.shape.get(dimension).copied().unwrap_or(1);
        let expected = size(0).saturating_mul(size(2));
        if weights.len() as u64 == expected {
            return Ok(Some(Arc::clone(weights)));
        }
        if is_embedding(name) {
            return Ok(None);
        }
        let found = weights.len();
        Err(Error::ImportanceLength { path: path.to_owned(), name: name.to_owned(), found, expected })
    }

    /// Adds the origin of the weights to the metadata, as llama-quantize does.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        metadata.set_last("quantize.imatrix.file", cut(&self.name));
        if let Some(dataset) = &self.dataset {
            metadata.set_last("quantize.imatrix.dataset", cut(dataset));
        }
        let entries = u32::try_from(self.weights.len()).unwrap_or(u32::MAX);
        metadata.set_last("quantize.imatrix.entries_count", entries);
        if self.chunks > 0 {
            metadata.set_last("quantize.imatrix.chunks_count", self.chunks);
        }
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

fn is_embedding(name: &str) -> bool {
    matches!(name, "token_embd.weight" | "per_layer_token_embd.weight")
}

/// Whether a tensor of type `ty` needs importance, because its quality would be useless without.
pub(super) fn is_required(name: &str, ty: TensorType, file_type: FileType) -> bool {
    use TensorType as T;
    let low = match ty {
        T::IQ1_S | T::IQ1_M | T::IQ2_XXS | T::IQ2_XS | T::IQ2_S | T::IQ3_XXS => true,
        T::Q2_K => file_type == FileType::Q2_K_S,
        _ => false,
    };
    low && !is_embedding(name) && name != "output.weight"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Value;
    use crate::imatrix::Entry;

    fn matrix() -> ImportanceMatrix {
        let mut matrix = ImportanceMatrix::new(2);
        matrix.datasets = vec!["ä".repeat(100), "b".into()];
        for (name, sums, counts) in [
            ("blk.0.attn_q.weight", vec![8.0, 16.0], vec![8]),
            ("blk.0.ffn_up_exps.weight", vec![4.0, 2.0, 0.0, 0.0], vec![4, 0]),
        ] {
            matrix.entries.insert(name.into(), Entry { sums, counts });
        }
        matrix
    }

    #[test]
    fn names_choose_the_tensors() {
        let of = |include: &[&str], exclude: &[&str]| {
            let texts = |parts: &[&str]| parts.iter().map(|&part| part.to_owned()).collect::<Vec<_>>();
            let importance = Importance::new("m", &matrix(), &texts(include), &texts(exclude));
            importance.map(|importance| importance.weights.len()).map_err(|error| error.to_string())
        };
        assert_eq!((of(&[], &[]), of(&["attn_q"], &[]), of(&[], &["attn_q"])), (Ok(2), Ok(1), Ok(1)));
        assert_eq!(of(&["attn_v"], &[]), Err("m: no tensor's name contains attn_v".into()));
        assert_eq!(of(&[], &["blk"]), Err("m: no tensor is left".into()));
    }

    #[test]
    fn weights_fit_the_tensor_or_are_refused() {
        let importance = Importance::new("m", &matrix(), &[], &[]).expect("valid");
        let of = |name: &str, shape: &[u64]| {
            let spec = TensorSpec { name: "renamed".into(), shape: shape.into(), ty: TensorType::F32 };
            importance.of(Path::new("model"), name, &spec)
        };
        let weights = of("blk.0.ffn_up_exps.weight", &[2, 7, 2]).expect("fits").expect("there");
        assert_eq!(*weights, [1.0, 0.5, 1.0, 1.0]);
        assert_eq!(of("blk.1.attn_q.weight", &[2, 7]).expect("not there"), None);
        assert!(of("blk.0.attn_q.weight", &[3, 7]).is_err());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let importance = Importance::new("m", &matrix(), &[], &[]).expect("valid");
        let mut metadata = Metadata::new();
        importance.describe(&mut metadata);
        assert_eq!(metadata.get("quantize.imatrix.dataset"), Some(&Value::String("ä".repeat(63))));
        assert_eq!(metadata.get("quantize.imatrix.entries_count"), Some(&Value::U32(2)));
        assert_eq!(metadata.get("quantize.imatrix.chunks_count"), None);
    }
}
