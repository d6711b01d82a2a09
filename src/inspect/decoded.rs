//! Decodes a tensor of any type to floats, in pieces, so that a tensor of any size can be inspected.

use crate::TensorType;
use crate::formats;
use crate::gguf::{self, Reader, TensorInfo};

/// Elements of a piece: a multiple of the block length of every type.
pub(crate) const PIECE: usize = 1 << 16;

/// Why a tensor cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A type that cannot be decoded.
    #[error("weights of type {ty} cannot be decoded yet")]
    Type {
        /// The type.
        ty: TensorType,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] gguf::Error),
}

/// Reads one tensor.
pub(crate) struct Decoder<'a> {
    reader: &'a Reader,
    tensor: &'a TensorInfo,
    bytes: Vec<u8>,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// When the tensor's type cannot be decoded.
    pub(crate) fn new(reader: &'a Reader, tensor: &'a TensorInfo) -> Result<Self, DecodeError> {
        use TensorType as T;
        let plain = matches!(tensor.ty, T::I8 | T::I16 | T::I32 | T::I64 | T::F64);
        if formats::codec(tensor.ty).is_none() && !plain {
            return Err(DecodeError::Type { ty: tensor.ty });
        }
        Ok(Self { reader, tensor, bytes: Vec::new() })
    }

    /// Decodes the elements from `first` on, a multiple of [`PIECE`], into `out`, which has room for a piece. Returns the
    /// decoded elements.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn read<'b>(&mut self, first: u64, out: &'b mut [f32]) -> Result<&'b [f32], DecodeError> {
        let ty = self.tensor.ty;
        let left = self.tensor.elements().saturating_sub(first);
        let n = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        self.bytes.resize(ty.row_bytes(n), 0);
        self.reader.read_at(self.tensor, ty.bytes_for(first).unwrap_or(u64::MAX), &mut self.bytes)?;
        let out = &mut out[..n];
        match formats::codec(ty) {
            Some(_) => formats::decode(ty, &self.bytes, out),
            None => plain(ty, &self.bytes, out),
        }
        Ok(out)
    }
}

/// Decodes integers and double precision.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "statistics in single precision")]
fn plain(ty: TensorType, bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.chunks_exact(ty.block_bytes()).zip(out) {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let signed = i64::from_le_bytes(wide);
        *out = match ty {
            TensorType::F64 => f64::from_bits(signed.cast_unsigned()) as f32,
            TensorType::I8 => f32::from(signed as i8),
            TensorType::I16 => f32::from(signed as i16),
            TensorType::I32 => signed as i32 as f32,
            _ => signed as f32,
        };
    }
}
