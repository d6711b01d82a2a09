//! Eight-bit floats (E4M3) with scales: one for the tensor, one for each row, or one for each block of rows and columns.
//!
//! Used by DeepSeek-V3, Qwen's FP8 checkpoints (`weight_scale_inv`), and compressed-tensors (`weight_scale`).

use super::{index, number_type, numbers, write_numbers};
use crate::safetensors::{Checkpoint, Dtype, Error, TensorInfo};

/// A weight in eight-bit floats.
pub(in super::super) struct Fp8 {
    weight: TensorInfo,
    scale: TensorInfo,
    /// Rows and columns of a block; each matrix of a stack begins with a new one.
    block: [u64; 2],
}

impl Fp8 {
    /// The weight of `weight` and `scale`, with blocks of size `block` unless the scale's shape shows that there are none. `None` if
    /// the two do not fit.
    pub(super) fn new(weight: &TensorInfo, scale: &TensorInfo, block: [u64; 2]) -> Option<Self> {
        let (&cols, rest) = weight.shape.split_last()?;
        let rows = rest.last().copied().unwrap_or(1);
        let matrices: u64 = rest.iter().rev().skip(1).product();
        let count = scale.elements();
        let blocks = |n: u64, of: u64| n.div_ceil(of.max(1));
        let mut by_block = weight.shape.clone();
        for (n, of) in by_block.iter_mut().rev().zip([block[1], block[0]]) {
            *n = blocks(*n, of);
        }
        let block = if scale.shape == by_block {
            block
        } else if count == 1 {
            [u64::MAX, u64::MAX]
        } else if count == matrices && matrices > 1 {
            [rows, cols]
        } else if count == matrices * rows {
            [1, cols]
        } else {
            return None;
        };
        let fits = block.iter().all(|&n| n > 0) && count > 0;
        let numbers = weight.dtype == Dtype::F8_E4M3 && number_type(scale.dtype).is_some();
        (fits && numbers).then(|| Self { weight: weight.clone(), scale: scale.clone(), block })
    }

    pub(super) fn shape(&self) -> Vec<u64> {
        self.weight.shape.clone()
    }

    pub(super) fn tensor(&self) -> &TensorInfo {
        &self.weight
    }

    pub(super) fn read(&self, checkpoint: &Checkpoint, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        let mut bytes = vec![0; out.len() / 4];
        checkpoint.read_at(&self.weight, first * cols as u64, &mut bytes)?;
        let matrix = self.weight.shape.iter().rev().nth(1).copied().unwrap_or(1).max(1);
        let per_row = index((cols as u64).div_ceil(self.block[1])).max(1);
        let whole = self.scale.elements() == 1;
        let mut held: Option<(u64, Vec<f32>)> = None;
        for (row, (bytes, out)) in (first..).zip(bytes.chunks_exact(cols).zip(out.chunks_exact_mut(4 * cols))) {
            let blocks = matrix.div_ceil(self.block[0]);
            let at = if whole { 0 } else { row / matrix * blocks + row % matrix / self.block[0] };
            if held.as_ref().is_none_or(|(held, _)| *held != at) {
                held = Some((at, numbers(checkpoint, &self.scale, at * per_row as u64, per_row)?));
            }
            let scales = held.as_ref().map_or(&[][..], |(_, scales)| scales);
            let width = index(self.block[1]).min(cols);
            let scaled = bytes.chunks(width.max(1)).zip(scales);
            write_numbers(scaled.flat_map(|(bytes, scale)| bytes.iter().map(move |&b| e4m3(b) * scale)), out);
        }
        Ok(())
    }
}

/// The value of an E4M3 float: no infinities, and one NaN for each sign.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(byte >> 3 & 15), byte & 7);
    let value = match (exponent, mantissa) {
        (15, 7) => f32::NAN,
        (0, _) => f32::from(mantissa) / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | u32::from(mantissa) << 20),
    };
    if byte & 0x80 == 0 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::e4m3;

    #[test]
    fn values_are_those_of_the_format() {
        let known = [(0x00, 0.0), (0x01, 1.0 / 512.0), (0x08, 1.0 / 64.0), (0x38, 1.0), (0x3a, 1.25), (0x7e, 448.0)];
        for (byte, value) in known {
            assert_eq!(e4m3(byte), value);
            assert_eq!(e4m3(byte | 0x80), -value);
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    }
}
