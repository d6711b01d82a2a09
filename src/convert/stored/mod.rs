//! How a checkpoint stores a weight: plain numbers, or a quantized form of several tensors that is decoded when rows are read.
//! One file for each form; `quantization_config` of `config.json` names the form.

mod fp8;
mod integers;
mod mxfp4;
mod packed;
mod scheme;

use crate::TensorType;
use crate::safetensors::{Checkpoint, Dtype, Error, TensorInfo};

pub(super) use scheme::{FoundWeight, Scheme, Tensors};

/// A weight of a checkpoint.
pub(super) enum Stored {
    /// Plain numbers.
    Plain(TensorInfo),
    /// Eight-bit floats with scales.
    Fp8(fp8::Fp8),
    /// Blocks of four-bit floats that share an exponent.
    Mxfp4(mxfp4::Mxfp4),
    /// Integers in words along the inputs (GPTQ) or the outputs (AWQ), with a scale and a zero point for each group of inputs.
    Packed(Box<packed::Packed>),
    /// Integers along the rows (MLX, compressed-tensors, bitsandbytes), with a scale for each group of columns.
    Integers(Box<integers::Integers>),
}

impl Stored {
    /// The type of the rows that [`Self::read`] returns; `None` for types that are not weights.
    pub(super) fn ty(&self) -> Option<TensorType> {
        match self {
            Self::Plain(tensor) => number_type(tensor.dtype),
            Self::Mxfp4(_) => Some(TensorType::MXFP4),
            Self::Fp8(_) | Self::Packed(_) | Self::Integers(_) => Some(TensorType::F32),
        }
    }

    /// Its shape, slowest dimension first.
    pub(super) fn shape(&self) -> Vec<u64> {
        match self {
            Self::Plain(tensor) => tensor.shape.clone(),
            Self::Fp8(fp8) => fp8.shape(),
            Self::Mxfp4(mxfp4) => mxfp4.shape(),
            Self::Packed(packed) => packed.shape(),
            Self::Integers(integers) => integers.shape(),
        }
    }

    /// The tensor that messages name.
    pub(super) fn tensor(&self) -> &TensorInfo {
        match self {
            Self::Plain(tensor) => tensor,
            Self::Fp8(fp8) => fp8.tensor(),
            Self::Mxfp4(mxfp4) => mxfp4.tensor(),
            Self::Packed(packed) => packed.tensor(),
            Self::Integers(integers) => integers.tensor(),
        }
    }

    /// Approximate bytes of temporary memory of [`Self::read`] besides its buffer of `elements` elements: stored numbers, and single
    /// precision.
    pub(super) fn scratch_bytes(&self, elements: u64) -> u64 {
        match self {
            Self::Plain(_) => 0,
            Self::Mxfp4(_) => elements,
            Self::Fp8(_) | Self::Packed(_) | Self::Integers(_) => elements * 8,
        }
    }

    /// Fills `out` with rows of `cols` elements, from row `first` on.
    pub(super) fn read(&self, checkpoint: &Checkpoint, first: u64, cols: usize, out: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Plain(tensor) => {
                let row_bytes = tensor.dtype.bytes() * cols as u64;
                checkpoint.read_at(tensor, first * row_bytes, out)
            }
            Self::Fp8(fp8) => fp8.read(checkpoint, first, cols, out),
            Self::Mxfp4(mxfp4) => mxfp4.read(checkpoint, first, cols, out),
            Self::Packed(packed) => packed.read(checkpoint, first, cols, out),
            Self::Integers(integers) => integers.read(checkpoint, first, cols, out),
        }
    }
}

/// The tensor type with the layout of `dtype`, for types of weights.
pub(super) fn number_type(dtype: Dtype) -> Option<TensorType> {
    match dtype {
        Dtype::F32 => Some(TensorType::F32),
        Dtype::F16 => Some(TensorType::F16),
        Dtype::BF16 => Some(TensorType::BF16),
        _ => None,
    }
}

/// `count` numbers of a tensor, from element `first` on.
pub(super) fn numbers(
    checkpoint: &Checkpoint,
    tensor: &TensorInfo,
    first: u64,
    count: usize,
) -> Result<Vec<f32>, Error> {
    let ty = number_type(tensor.dtype).unwrap_or(TensorType::F32);
    let mut bytes = vec![0; ty.row_bytes(count)];
    checkpoint.read_at(tensor, first * tensor.dtype.bytes(), &mut bytes)?;
    let mut numbers = vec![0.0; count];
    crate::formats::decode(ty, &bytes, &mut numbers);
    Ok(numbers)
}

/// Writes single precision numbers.
fn write_numbers(numbers: impl IntoIterator<Item = f32>, out: &mut [u8]) {
    for (bytes, number) in out.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
}

/// A size as an index. A size that does not fit gives an index out of range.
fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
