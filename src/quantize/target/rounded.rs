//! A tensor with the numbers that it will have: encoded and decoded again.

use crate::TensorType;
use crate::formats;
use crate::kernels::Matrix;
use crate::quantize::slab::{encode_as, granule};
use crate::quantize::stream::{Width, ordered};
use crate::quantize::{Error, PlannedTensor, Source};

/// Approximate number of weights in a piece.
const PIECE: u64 = 64 << 10;

/// The numbers of `tensor` after encoding as `ty`, as F16 where the source has F16, else as F32.
pub(super) fn rounded(
    source: &dyn Source,
    tensor: &PlannedTensor,
    ty: TensorType,
    threads: usize,
) -> Result<Matrix, Error> {
    let result = if tensor.source_type == TensorType::F16 { TensorType::F16 } else { TensorType::F32 };
    let granule = granule(source, tensor);
    let piece = granule * (PIECE / granule).max(1);
    let (total, from) = (tensor.elements(), tensor.source_type);
    let len = |ty: TensorType, elements: u64| {
        ty.bytes_for(elements).and_then(|bytes| usize::try_from(bytes).ok()).expect("whole blocks that fit memory")
    };
    let count = usize::try_from(total.div_ceil(piece)).expect("pieces in memory");
    let mut all = Vec::with_capacity(len(result, total));
    let work = |(read, numbers): &mut (Vec<u8>, Vec<f32>), item: usize| -> Result<Vec<u8>, Error> {
        let first = item as u64 * piece;
        let elements = piece.min(total - first);
        read.resize(len(from, elements), 0);
        source.read(tensor.source, from.bytes_for(first).unwrap_or(0), read)?;
        numbers.resize(usize::try_from(elements).expect("a piece fits memory"), 0.0);
        formats::decode(from, read, numbers);
        let mut bytes = vec![0; len(ty, elements)];
        encode_as(ty, tensor, first, numbers, &mut bytes);
        formats::decode(ty, &bytes, numbers);
        bytes.resize(len(result, elements), 0);
        formats::encode(result, numbers, None, &mut bytes);
        Ok(bytes)
    };
    ordered(count, Width { threads, window: 4 * threads }, Default::default, work, |_, bytes| {
        all.extend_from_slice(&bytes);
        Ok(())
    })?;
    let size = |n: u64| usize::try_from(n).expect("fits memory");
    Matrix::new(result, size(tensor.rows()), size(tensor.cols()), all.into())
        .map_err(|problem| Error::Judge { name: tensor.spec.name.clone(), problem: problem.to_string() })
}
