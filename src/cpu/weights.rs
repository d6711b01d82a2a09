//! A model's tensors by name, from which the parts of the network are loaded.

use std::collections::BTreeMap;

use crate::kernels::Matrix;
use crate::network::{Error, Tensors};

/// Tensors by GGUF name.
#[derive(Default)]
pub struct Weights {
    tensors: BTreeMap<String, Matrix>,
}

impl Weights {
    /// Adds a tensor. A tensor of more than two dimensions is a matrix of all its rows.
    pub fn insert(&mut self, name: impl Into<String>, matrix: Matrix) {
        self.tensors.insert(name.into(), matrix);
    }

    /// The tensor `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Matrix> {
        self.tensors.get(name)
    }

    /// The matrix `name`, of `rows` rows of `cols` elements.
    ///
    /// # Errors
    /// When it is missing or of another shape.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        let matrix = self.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if (matrix.rows(), matrix.cols()) != (rows, cols) {
            return Err(Error::BadShape {
                name: name.to_owned(),
                found: [matrix.rows(), matrix.cols()],
                expected: [rows, cols],
            });
        }
        Ok(matrix.clone())
    }

    /// As [`Tensors::vector`], for a tensor that must exist.
    ///
    /// # Errors
    /// When it is missing or its number of elements is not `len`.
    pub fn required_vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        self.vector(name, len)?.ok_or_else(|| Error::MissingTensor { name: name.to_owned() })
    }
}

impl Tensors for Weights {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, Error> {
        let Some(matrix) = self.get(name) else { return Ok(None) };
        if matrix.rows() * matrix.cols() != len {
            return Err(Error::BadShape {
                name: name.to_owned(),
                found: [matrix.rows(), matrix.cols()],
                expected: [1, len],
            });
        }
        let mut values = vec![0.0; len];
        for (row, out) in values.chunks_exact_mut(matrix.cols().max(1)).enumerate() {
            matrix.decode_row(row, out);
        }
        Ok(Some(values))
    }
}
