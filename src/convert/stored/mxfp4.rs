//! MXFP4 as in gpt-oss: `_blocks`, 16 bytes for 32 elements with neighbours in a byte, and `_scales`, an exponent for each block.
//! It is GGUF's format in another order, and is copied without loss.

use crate::safetensors::{Checkpoint, Dtype, Error, TensorInfo};

/// Bytes of a block's elements.
const BLOCK: usize = 16;

/// A weight in MXFP4.
pub(in super::super) struct Mxfp4 {
    /// `[.., rows, blocks, 16]`.
    blocks: TensorInfo,
    /// `[.., rows, blocks]`.
    scales: TensorInfo,
}

impl Mxfp4 {
    /// The weight of `blocks` and `scales`; `None` if the two do not fit.
    pub(super) fn new(blocks: &TensorInfo, scales: &TensorInfo) -> Option<Self> {
        let (&last, rest) = blocks.shape.split_last()?;
        let fits = last == BLOCK as u64 && rest == scales.shape && rest.len() >= 2;
        let bytes = [blocks, scales].iter().all(|tensor| matches!(tensor.dtype, Dtype::U8 | Dtype::F8_E8M0));
        (fits && bytes).then(|| Self { blocks: blocks.clone(), scales: scales.clone() })
    }

    pub(super) fn shape(&self) -> Vec<u64> {
        let mut shape = self.scales.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = last.saturating_mul(32);
        }
        shape
    }

    pub(super) fn tensor(&self) -> &TensorInfo {
        &self.blocks
    }

    pub(super) fn read(&self, checkpoint: &Checkpoint, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        let blocks = out.len() / (BLOCK + 1);
        let start = first * (cols / 32) as u64;
        let mut scales = vec![0; blocks];
        checkpoint.read_at(&self.scales, start, &mut scales)?;
        let mut codes = vec![0; blocks * BLOCK];
        checkpoint.read_at(&self.blocks, start * BLOCK as u64, &mut codes)?;
        let code = |bytes: &[u8], element: usize| bytes[element / 2] >> (4 * (element % 2)) & 15;
        for (i, out) in out.chunks_exact_mut(BLOCK + 1).enumerate() {
            let bytes = &codes[i * BLOCK..(i + 1) * BLOCK];
            out[0] = scales[i];
            for (j, byte) in out[1..].iter_mut().enumerate() {
                *byte = code(bytes, j) | code(bytes, j + BLOCK) << 4;
            }
        }
        Ok(())
    }
}
