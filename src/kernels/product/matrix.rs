//! A weight matrix, in the layout of its file.

use std::ops::Range;

use crate::TensorType;
use crate::bytes::Bytes;
use crate::formats;
use crate::kernels::Error;

/// `rows` x `cols` weights: the rows of a product's output, the columns of its input.
#[derive(Clone, Debug)]
pub struct Matrix {
    ty: TensorType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: Bytes,
}

impl Matrix {
    /// A matrix of `rows` rows, stored one after the other, each of whole blocks.
    ///
    /// # Errors
    /// When there is no codec for `ty`, rows do not fill whole blocks, or the number of `bytes` does not match the shape.
    pub fn new(ty: TensorType, rows: usize, cols: usize, bytes: Bytes) -> Result<Self, Error> {
        if formats::codec(ty).is_none() {
            return Err(Error::Unsupported { ty });
        }
        if cols == 0 || !cols.is_multiple_of(ty.block_len()) {
            return Err(Error::PartialBlock { ty, cols });
        }
        let row_bytes = ty.row_bytes(cols);
        if rows.checked_mul(row_bytes) != Some(bytes.len()) {
            return Err(Error::Size { ty, rows, cols, found: bytes.len() });
        }
        Ok(Self { ty, rows, cols, row_bytes, bytes })
    }

    /// A matrix of floats.
    ///
    /// # Panics
    /// If `values` are not whole rows.
    #[must_use]
    pub fn from_f32(cols: usize, values: &[f32]) -> Self {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "{} values in rows of {cols}", values.len());
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { ty: TensorType::F32, rows: values.len() / cols, cols, row_bytes: cols * 4, bytes: bytes.into() }
    }

    /// Type of the weights.
    #[must_use]
    pub fn ty(&self) -> TensorType {
        self.ty
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of all rows.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, shared.
    #[must_use]
    pub fn shared_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Bytes of all rows from row `first` on.
    pub(super) fn bytes_from(&self, first: usize) -> &[u8] {
        &self.bytes[first * self.row_bytes..]
    }

    /// Bytes of row `row`.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes]
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the matrix has fewer rows.
    #[must_use]
    pub fn slice_rows(&self, rows: Range<usize>) -> Self {
        let bytes = self.bytes.get(rows.start * self.row_bytes..rows.end * self.row_bytes);
        Self { rows: rows.len(), bytes: bytes.unwrap_or_else(|| panic!("rows {rows:?} of {}", self.rows)), ..*self }
    }

    /// The same bytes as rows of another length.
    ///
    /// # Errors
    /// When they do not fill whole rows of whole blocks.
    pub fn reshape(&self, cols: usize) -> Result<Self, Error> {
        let rows = (self.rows * self.cols).checked_div(cols).unwrap_or(0);
        Self::new(self.ty, rows, cols, self.bytes.clone())
    }

    /// Writes row `row` as floats to `out`, `[cols]`.
    ///
    /// # Panics
    /// If there is no such row, or `out` has another length.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        formats::decode(self.ty, self.row(row), out);
    }
}

/// Prefetch hints for some rows of weights.
#[derive(Clone, Copy)]
pub(super) struct ReadAhead<'a> {
    /// Whether the first of these rows have not been prefetched yet.
    pub(super) cold: bool,
    /// The bytes that this thread is likely to read after these rows.
    pub(super) then: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::Matrix;
    use crate::TensorType;
    use crate::kernels::Error;

    #[test]
    fn shapes_are_checked() {
        let bytes = vec![0; 68].into();
        assert!(Matrix::new(TensorType::Q8_0, 2, 32, bytes).is_ok());
        for (ty, rows, cols) in [(TensorType::Q8_0, 2, 33), (TensorType::Q8_0, 3, 32), (TensorType::I32, 17, 1)] {
            let found = Matrix::new(ty, rows, cols, vec![0; 68].into());
            assert!(matches!(found, Err(Error::PartialBlock { .. } | Error::Size { .. } | Error::Unsupported { .. })));
        }
    }

    #[test]
    fn rows_are_those_of_the_file() {
        let matrix = Matrix::from_f32(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).slice_rows(1..3);
        let mut row = [0.0; 2];
        matrix.decode_row(1, &mut row);
        assert_eq!((matrix.rows(), row), (2, [5.0, 6.0]));
    }
}
