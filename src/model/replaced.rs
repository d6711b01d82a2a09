//! Models that share everything but the numbers of some tensors: what a change of these does, and how a model computes without
//! quantized products.

use super::Model;
use super::load::Network;
use crate::TensorType;
use crate::kernels::{Matrix, Pool};
use crate::network::Error;

impl Model {
    /// The same model with these tensors in place of those with the same names. All else is shared, adapters too.
    ///
    /// # Errors
    /// When the model has no such tensor, or it has another shape.
    pub fn with_tensors(&self, replaced: Vec<(String, Matrix)>) -> Result<Self, Error> {
        let mut tensors = self.tensors().to_vec();
        for (name, matrix) in replaced {
            let Some((_, place)) = tensors.iter_mut().find(|(found, _)| *found == name) else {
                return Err(Error::MissingTensor { name });
            };
            let [found, expected] = [&matrix, &*place].map(|matrix| [matrix.rows(), matrix.cols()]);
            if found != expected {
                return Err(Error::BadShape { name, found, expected });
            }
            *place = matrix;
        }
        Ok(self.with_network(Network::new(self.decoder().spec().clone(), tensors)?))
    }

    /// The same model with quantized tensors and those in BF16 decoded to single precision: products with these do not round
    /// their input. Takes four bytes of memory for each of their weights.
    ///
    /// # Errors
    /// None: the shapes stay.
    pub fn decoded(&self, pool: &Pool) -> Result<Self, Error> {
        let is_rounding = |matrix: &Matrix| !matches!(matrix.ty(), TensorType::F32 | TensorType::F16);
        let rounding = self.tensors().iter().filter(|(_, matrix)| is_rounding(matrix));
        self.with_tensors(rounding.map(|(name, matrix)| (name.clone(), decoded(matrix, pool))).collect())
    }
}

/// The same numbers in single precision.
fn decoded(matrix: &Matrix, pool: &Pool) -> Matrix {
    let cols = matrix.cols();
    let mut values = vec![0.0; matrix.rows() * cols];
    let rows = values.chunks_exact_mut(cols).enumerate().collect();
    pool.run_each(rows, &|(row, out): (usize, &mut [f32])| matrix.decode_row(row, out));
    Matrix::from_f32(cols, &values)
}
