//! The types of another model's tensors, for a model that shall have the same.

use std::collections::BTreeMap;

use super::FileType;
use crate::TensorType;
use crate::gguf::Reader;

/// Which tensor has which type in a model.
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

    /// The mix that the model says it has: it decides of what the model lacks.
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
