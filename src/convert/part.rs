//! Reads rows of an output tensor from one stored weight through the layout that relates the two. Memory is a few times that of
//! the rows, whatever the size of the weight.

use super::layout::Layout;
use super::stored::Stored;
use crate::TensorType;
use crate::safetensors::{Checkpoint, Error};

/// Bytes of source rows in memory while columns become rows.
const CHUNK_BYTES: usize = 1 << 20;
/// Maximum rows that may be read unnecessarily for each row that is needed.
const MAX_SPREAD: u64 = 4;

/// A stored weight and the layout of the output's rows in it.
pub(super) struct Part<'a> {
    pub(super) stored: &'a Stored,
    pub(super) layout: &'a Layout,
    pub(super) checkpoint: &'a Checkpoint,
}

/// Maximum bytes of [`Part::read`] besides its buffer of `rows` rows of `cols` elements.
pub(super) fn scratch_bytes(stored: &Stored, layout: &Layout, rows: u64, cols: u64) -> u64 {
    let ty = stored.ty().unwrap_or(TensorType::F32);
    let row_bytes = ty.bytes_for(layout.source_cols).unwrap_or(0);
    let moved = if layout.transposes() {
        // A chunk, possibly copied from another one, and the positions of columns.
        2 * row_bytes.max(CHUNK_BYTES as u64) + (rows + cols) * 16
    } else if layout.moves() {
        (1 + MAX_SPREAD) * rows * row_bytes
    } else {
        0
    };
    moved + stored.scratch_bytes(rows * cols.max(layout.source_cols))
}

impl Part<'_> {
    fn ty(&self) -> TensorType {
        self.stored.ty().unwrap_or(TensorType::F32)
    }

    /// Fills `out` with rows of `cols` elements of the output, from row `first` on, in the stored type.
    pub(super) fn read(&self, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        if self.layout.transposes() {
            return self.read_turned(first, cols, out);
        }
        let row_bytes = self.ty().row_bytes(cols);
        let rows: Vec<u64> = (first..).take(out.len() / row_bytes).map(|row| self.layout.source(row, 0).0).collect();
        if self.layout.keeps_rows_whole() {
            return self.gather(&rows, cols, out);
        }
        let from = index(self.layout.source_cols);
        let size = self.ty().row_bytes(1);
        let columns: Vec<usize> = (0..cols as u64).map(|col| index(self.layout.source(first, col).1)).collect();
        let mut whole = vec![0; rows.len() * from * size];
        self.gather(&rows, from, &mut whole)?;
        for (row, out) in whole.chunks_exact(from * size).zip(out.chunks_exact_mut(row_bytes)) {
            for (&col, out) in columns.iter().zip(out.chunks_exact_mut(size)) {
                out.copy_from_slice(&row[col * size..(col + 1) * size]);
            }
        }
        Ok(())
    }

    /// Reads these rows of the stored weight.
    fn gather(&self, rows: &[u64], cols: usize, out: &mut [u8]) -> Result<(), Error> {
        let row_bytes = self.ty().row_bytes(cols);
        let (Some(&low), Some(&high)) = (rows.iter().min(), rows.iter().max()) else { return Ok(()) };
        let span = high - low + 1;
        if rows.windows(2).any(|pair| pair[1] != pair[0] + 1) && span <= MAX_SPREAD * rows.len() as u64 {
            let mut block = vec![0; index(span) * row_bytes];
            self.stored.read(self.checkpoint, low, cols, &mut block)?;
            for (&row, out) in rows.iter().zip(out.chunks_exact_mut(row_bytes)) {
                let at = index(row - low) * row_bytes;
                out.copy_from_slice(&block[at..at + row_bytes]);
            }
            return Ok(());
        }
        // Positions in the output, in the order of the source, so that interleaved rows are read in few pieces.
        let mut places: Vec<usize> = (0..rows.len()).collect();
        places.sort_unstable_by_key(|&place| rows[place]);
        for run in places.chunk_by(|&a, &b| rows[b] == rows[a] + 1) {
            let first = run[0];
            if run.windows(2).all(|pair| pair[1] == pair[0] + 1) {
                let out = &mut out[first * row_bytes..(first + run.len()) * row_bytes];
                self.stored.read(self.checkpoint, rows[first], cols, out)?;
                continue;
            }
            let mut block = vec![0; run.len() * row_bytes];
            self.stored.read(self.checkpoint, rows[first], cols, &mut block)?;
            for (&place, row) in run.iter().zip(block.chunks_exact(row_bytes)) {
                out[place * row_bytes..(place + 1) * row_bytes].copy_from_slice(row);
            }
        }
        Ok(())
    }

    /// Rows that are columns of the stored weight.
    fn read_turned(&self, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        let size = self.ty().row_bytes(1);
        let from = index(self.layout.source_cols);
        let count = out.len() / (cols * size);
        // For each row, the first source row of its matrix, and its column there.
        let places: Vec<(u64, u64)> = (first..).take(count).map(|row| self.layout.source(row, 0)).collect();
        let per_chunk = (CHUNK_BYTES / (from * size).max(1)).max(1);
        let mut done = 0;
        for matrix in places.chunk_by(|a, b| a.0 == b.0) {
            let rows: Vec<u64> = (0..cols as u64).map(|col| self.layout.source(first + done as u64, col).0).collect();
            let out = &mut out[done * cols * size..(done + matrix.len()) * cols * size];
            for (chunk, rows) in rows.chunks(per_chunk).enumerate() {
                let mut block = vec![0; rows.len() * from * size];
                self.gather(rows, from, &mut block)?;
                for (&(_, col), out) in matrix.iter().zip(out.chunks_exact_mut(cols * size)) {
                    let at = index(col) * size;
                    let elements = block.chunks_exact(from * size).map(|row| &row[at..at + size]);
                    let start = chunk * per_chunk * size;
                    for (out, element) in out[start..].chunks_exact_mut(size).zip(elements) {
                        out.copy_from_slice(element);
                    }
                }
            }
            done += matrix.len();
        }
        Ok(())
    }
}

/// A size as an index. A size that does not fit gives an index out of range.
pub(super) fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
