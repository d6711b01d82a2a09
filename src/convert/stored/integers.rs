//! Integers along the rows of a weight, with a scale for each row and group of columns: MLX's affine mode, compressed-tensors
//! (`pack-quantized`, `int-quantized`) and the eight-bit format of bitsandbytes.
//!
//! A row of integers is a stream of bits, the lowest bit first, in words of 32 bits. That is how MLX packs 2 to 8 bits
//! and compressed-tensors 2, 4 or 8.

use super::{index, number_type, numbers, write_numbers};
use crate::safetensors::{Checkpoint, Dtype, Error, TensorInfo};

/// A weight of integers in rows.
pub(in super::super) struct Integers {
    /// `[.., rows, words]`, or `[rows, cols]` where each integer is a signed byte.
    pub(super) codes: TensorInfo,
    /// Bits of an integer.
    pub(super) bits: u32,
    /// `[.., rows, groups]`.
    pub(super) scales: TensorInfo,
    pub(super) zero: Zero,
    /// Group of each column, if the columns of a group are not contiguous.
    pub(super) groups: Option<TensorInfo>,
    /// A factor of all scales.
    pub(super) factor: f32,
}

/// The zero point.
pub(in super::super) enum Zero {
    /// The integer with the highest bit alone.
    Middle,
    /// Zero: the integers are signed bytes.
    Signed,
    /// An integer for each row and group: packed like the weight, but along the rows, `[words, groups]`.
    Packed(TensorInfo),
    /// None; a number for each row and group is added instead.
    Added(TensorInfo),
}

impl Integers {
    /// Whether shapes and types agree.
    pub(super) fn fits(&self) -> bool {
        let Self { codes, scales, zero, groups, .. } = self;
        let (rows, cols) = (self.rows(), self.columns());
        let packed = |tensor: &TensorInfo| matches!(tensor.dtype, Dtype::I32 | Dtype::U32);
        let numbers = |tensor: &TensorInfo| number_type(tensor.dtype).is_some();
        let whole = scales.elements() == 1;
        let count = self.group_count();
        let scaled = numbers(scales) && count > 0 && (whole || rows.checked_mul(count) == Some(scales.elements()));
        let stored = match zero {
            Zero::Signed => codes.dtype == Dtype::I8,
            _ => packed(codes) && (1..=8).contains(&self.bits),
        };
        let zeros = match zero {
            Zero::Middle | Zero::Signed => true,
            Zero::Packed(zeros) => packed(zeros) && !whole && zeros.shape == [self.words(rows), count],
            Zero::Added(added) => numbers(added) && added.shape == scales.shape,
        };
        let grouped = groups.as_ref().is_none_or(|groups| packed(groups) && groups.elements() == cols);
        rows > 0
            && cols > 0
            && codes.shape.len() >= 2
            && scaled
            && stored
            && zeros
            && grouped
            && (groups.is_some() || cols.is_multiple_of(count))
    }

    /// Words that `n` integers take.
    fn words(&self, n: u64) -> u64 {
        n.saturating_mul(u64::from(self.bits)).div_ceil(32)
    }

    fn rows(&self) -> u64 {
        self.codes.shape.iter().rev().skip(1).product()
    }

    fn columns(&self) -> u64 {
        let stored = self.codes.shape.last().copied().unwrap_or(0);
        if matches!(self.zero, Zero::Signed) { stored } else { stored.saturating_mul(32) / u64::from(self.bits).max(1) }
    }

    /// Groups of a row.
    fn group_count(&self) -> u64 {
        if self.scales.shape.len() < 2 { 1 } else { self.scales.shape.last().copied().unwrap_or(1) }
    }

    pub(super) fn shape(&self) -> Vec<u64> {
        let mut shape = self.codes.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = self.columns();
        }
        shape
    }

    pub(super) fn tensor(&self) -> &TensorInfo {
        &self.codes
    }

    pub(super) fn read(&self, checkpoint: &Checkpoint, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        let rows = out.len() / 4 / cols;
        let count = index(self.group_count());
        let group_of = self.group_of(checkpoint, cols, count)?;
        let whole = self.scales.elements() == 1;
        let at = if whole { (0, 1) } else { (first * count as u64, rows * count) };
        let scales = numbers(checkpoint, &self.scales, at.0, at.1)?;
        let added = match &self.zero {
            Zero::Added(added) => numbers(checkpoint, added, at.0, at.1)?,
            _ => vec![0.0; at.1],
        };
        let zeros = self.zeros(checkpoint, first, rows, count)?;
        let row_bytes = index(self.codes.shape.last().copied().unwrap_or(0).saturating_mul(self.codes.dtype.bytes()));
        let mut codes = vec![0; rows * row_bytes];
        checkpoint.read_at(&self.codes, first * row_bytes as u64, &mut codes)?;
        let signed = matches!(self.zero, Zero::Signed);
        for (row, (codes, out)) in codes.chunks_exact(row_bytes).zip(out.chunks_exact_mut(4 * cols)).enumerate() {
            let values = group_of.iter().enumerate().map(|(col, &group)| {
                let group = row * count + group;
                let code = if signed { i32::from(codes[col].cast_signed()) } else { self.code(codes, col) };
                let at = if whole { 0 } else { group };
                (code - zeros[group]) as f32 * (scales[at] * self.factor) + added[at]
            });
            write_numbers(values, out);
        }
        Ok(())
    }

    /// Integer `i` of a stream of bits.
    fn code(&self, bytes: &[u8], i: usize) -> i32 {
        let bit = i * self.bits as usize;
        let byte = |at: usize| bytes.get(at).map_or(0, |&byte| u16::from(byte));
        let pair = byte(bit / 8) | byte(bit / 8 + 1) << 8;
        i32::from(pair >> (bit % 8) & (u16::MAX >> (16 - self.bits)))
    }

    /// The zero points of each row and group.
    fn zeros(&self, checkpoint: &Checkpoint, first: u64, rows: usize, count: usize) -> Result<Vec<i32>, Error> {
        let Zero::Packed(zeros) = &self.zero else {
            let zero = if matches!(self.zero, Zero::Middle) { 1 << (self.bits - 1) } else { 0 };
            return Ok(vec![zero; rows * count]);
        };
        // Zero points are packed along the rows: a word of a column has those of several rows.
        let bits = u64::from(self.bits);
        let (start, end) = (first * bits / 32, self.words(first + rows as u64));
        let mut words = vec![0; index(end - start) * count * 4];
        checkpoint.read_at(zeros, start * count as u64 * 4, &mut words)?;
        let words = words.as_chunks::<4>().0;
        let mut all = Vec::with_capacity(rows * count);
        for row in first..first + rows as u64 {
            for group in 0..count {
                let column: Vec<u8> = words.iter().skip(group).step_by(count).flatten().copied().collect();
                all.push(self.code(&column, index(row - start * 32 / bits)));
            }
        }
        Ok(all)
    }

    /// The group of each column.
    fn group_of(&self, checkpoint: &Checkpoint, cols: usize, count: usize) -> Result<Vec<usize>, Error> {
        let Some(groups) = &self.groups else {
            let width = cols.div_ceil(count.max(1)).max(1);
            return Ok((0..cols).map(|col| col / width).collect());
        };
        let mut bytes = vec![0; 4 * cols];
        checkpoint.read_at(groups, 0, &mut bytes)?;
        let groups = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word) as usize);
        Ok(groups.map(|group| group.min(count.saturating_sub(1))).collect())
    }
}
