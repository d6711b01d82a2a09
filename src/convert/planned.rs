//! The tensors of a file to be written, as far as a network's description depends on them.

use crate::gguf::TensorSpec;
use crate::network::{Error, Tensors};

/// Names and shapes of all tensors, and the values of those that follow from settings.
pub(super) struct Planned<'a> {
    pub(super) specs: &'a [TensorSpec],
    pub(super) known: &'a [(&'a str, &'a [f32])],
}

impl Tensors for Planned<'_> {
    fn has(&self, name: &str) -> bool {
        self.specs.iter().any(|spec| spec.name == name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, Error> {
        match self.known.iter().find(|(known, _)| *known == name) {
            None => Ok(None),
            Some((_, values)) if values.len() == len => Ok(Some(values.to_vec())),
            Some((_, values)) => {
                let (name, found) = (name.to_owned(), [1, values.len()]);
                Err(Error::BadShape { name, found, expected: [1, len] })
            }
        }
    }
}
