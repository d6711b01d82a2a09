//! The types of another model's tensors, for quantizing a model to the same types (`--like`).

use std::collections::BTreeMap;

use super::FileType;
use crate::TensorType;
use crate::gguf::Reader;

/// The types of the tensors of a model.
#[derive(Clone, Debug)]
pub struct Like {
    types: BTreeMap<String, TensorType>,
    file_type: Option<FileType>,
}

impl Like {
    /// The types of an opened model, all files of a split one.
    #[must_use]
    pub fn new(reader: &Reader) -> Self {
        let types = reader.tensors().iter().map(|tensor| (tensor.name.clone(), tensor.ty)).collect();
        Self { types, file_type: FileType::of(reader.metadata()) }
    }

    /// The file type in the model's metadata, which decides about tensors that the model does not have.
    #[must_use]
    pub fn file_type(&self) -> Option<FileType> {
        self.file_type
    }

    /// The type of the tensor called `name` there.
    #[must_use]
    pub fn ty(&self, name: &str) -> Option<TensorType> {
        self.types.get(name).copied()
    }
}
