//! RMS and layer norms over rows.

use super::Weights;
use super::rows::for_rows;
use crate::kernels::{Pool, vector};
use crate::network::{Error, NormKind, NormSpec, Tensors};

/// A norm with its weights.
#[derive(Clone)]
pub struct Norm {
    spec: NormSpec,
    /// `[len]`, or `[heads, len]` with weights for each head.
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    len: usize,
}

impl Norm {
    /// Loads `name.weight` and, if it exists, `name.bias`, of `len` elements; nothing for a norm without weights.
    ///
    /// # Errors
    /// When the weight is missing or of another length.
    pub fn load(weights: &Weights, name: &str, len: usize, spec: NormSpec) -> Result<Self, Error> {
        if spec.plain {
            return Ok(Self::plain(len, spec));
        }
        // A few families have the weight under the bare name.
        let weight = match weights.vector(name, len)? {
            Some(weight) => weight,
            None => weights.required_vector(&format!("{name}.weight"), len)?,
        };
        let bias = weights.vector(&format!("{name}.bias"), len)?;
        Ok(Self { spec, weight: Some(weight), bias, len })
    }

    /// A norm of heads, if `name.weight` exists: of each head (with one weight for all heads, `[dim]`, or one for each,
    /// `[heads, dim]`), or of all heads together (`[heads * dim]`).
    ///
    /// # Errors
    /// When the weight has none of these shapes.
    pub fn load_heads(
        weights: &Weights,
        name: &str,
        dim: usize,
        heads: usize,
        spec: NormSpec,
    ) -> Result<Option<Self>, Error> {
        let tensor = format!("{name}.weight");
        let Some(matrix) = weights.get(&tensor) else { return Ok(None) };
        let shape = (matrix.rows(), matrix.cols());
        if shape == (heads, dim) {
            let weight = weights.required_vector(&tensor, heads * dim)?;
            let bias = weights.vector(&format!("{name}.bias"), heads * dim)?;
            return Ok(Some(Self { spec, weight: Some(weight), bias, len: dim }));
        }
        let together = shape.0 * shape.1 == heads * dim;
        Self::load(weights, name, if together { heads * dim } else { dim }, spec).map(Some)
    }

    /// A norm over `len` elements without weights.
    #[must_use]
    pub fn plain(len: usize, spec: NormSpec) -> Self {
        Self { spec, weight: None, bias: None, len }
    }

    /// Norms every row of `x`, in place.
    pub fn apply(&self, pool: &Pool, x: &mut [f32]) {
        // A task has all heads of a row, so that each head gets its own weight.
        let cols = self.weight.as_ref().map_or(self.len, Vec::len);
        for_rows(pool, x, cols, |_, row| self.apply_row(row));
    }

    /// Norms consecutive rows, in place.
    pub fn apply_row(&self, rows: &mut [f32]) {
        let sets = self.weight.as_ref().map_or(1, |w| w.len() / self.len);
        for (i, row) in rows.chunks_exact_mut(self.len).enumerate() {
            let set = i % sets * self.len..(i % sets + 1) * self.len;
            let weight = self.weight.as_ref().map(|w| &w[set.clone()]);
            match self.spec.kind {
                NormKind::Rms => vector::rms_norm(row, weight, self.spec.epsilon),
                NormKind::Layer => {
                    let bias = self.bias.as_ref().map(|b| &b[set]);
                    vector::layer_norm(row, weight, bias, self.spec.epsilon);
                }
            }
        }
    }
}
