//! Slabs, the pieces of tensors that threads work on: read, decode, encode, measure.
//!
//! A thread processes one slab at a time, tile by tile, so that the bytes and numbers of a tile stay in its cache.

use super::checksum::checksum;
use super::stats::ErrorSums;
use super::{Error, Plan, PlannedTensor, Source};
use crate::TensorType;
use crate::formats;

/// How large pieces are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Elements of a tile, about.
    pub(super) tile: u64,
    /// Bytes of a slab in the output, about.
    pub(super) slab_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        // A tile is 128 KiB of floats and half as much or less of each other type.
        Self { tile: 32 << 10, slab_bytes: 1 << 20 }
    }
}

/// Some elements of a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slab {
    /// Number of the tensor in the plan.
    pub(super) tensor: usize,
    first: u64,
    elements: u64,
    tile: u64,
}

impl Slab {
    /// The bytes before it in its tensor, and its own bytes.
    pub(super) fn bytes(&self, plan: &Plan) -> (u64, usize) {
        let ty = plan.tensors[self.tensor].spec.ty;
        (ty.bytes_for(self.first).unwrap_or(0), bytes(ty, self.elements))
    }

    /// Bytes of a thread's buffers for it, besides its bytes in the output. `measure` as in [`Job`].
    pub(super) fn worker_bytes(&self, source: &dyn Source, plan: &Plan, measure: bool) -> u64 {
        let planned = &plan.tensors[self.tensor];
        let elements = self.tile.min(self.elements);
        let floats = if measure { 2 } else { 1 } * size_of::<f32>() as u64 * elements;
        let read = planned.source_type.bytes_for(elements).unwrap_or(0);
        read + floats + source.scratch_bytes(planned.source, elements)
    }
}

/// Bytes of whole blocks.
fn bytes(ty: TensorType, elements: u64) -> usize {
    ty.bytes_for(elements).and_then(|bytes| usize::try_from(bytes).ok()).expect("whole blocks that fit memory")
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("a piece fits memory")
}

/// Elements that must be read and encoded together (slabs are multiples of it): whole rows if columns have importance.
pub(super) fn granule(source: &dyn Source, planned: &PlannedTensor) -> u64 {
    let (own, cols) = (source.granule(planned.source).max(1), planned.cols().max(1));
    if planned.importance.is_none() {
        return own;
    }
    let (mut a, mut b) = (own, cols);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    own / a * cols
}

/// Encodes whole rows of a tensor in `ty`, from its element `first` on.
pub(super) fn encode_as(ty: TensorType, planned: &PlannedTensor, first: u64, numbers: &[f32], out: &mut [u8]) {
    let Some(importance) = &planned.importance else { return formats::encode(ty, numbers, None, out) };
    let (cols, rows_per_matrix) = (planned.cols(), planned.spec.shape.get(1).copied().unwrap_or(1).max(1));
    let (mut numbers, mut out, mut row) = (numbers, out, first / cols.max(1));
    while !numbers.is_empty() {
        // Rows of one matrix share their importance.
        let matrix = index(row / rows_per_matrix) * index(cols);
        let rows = (rows_per_matrix - row % rows_per_matrix).min(numbers.len() as u64 / cols);
        let (these, rest) = numbers.split_at(index(rows * cols));
        let (bytes, after) = out.split_at_mut(ty.row_bytes(these.len()));
        formats::encode(ty, these, Some(&importance[matrix..matrix + index(cols)]), bytes);
        (numbers, out, row) = (rest, after, row + rows);
    }
}

/// All elements of all tensors, in order.
pub(super) fn cut(source: &dyn Source, plan: &Plan, sizes: Sizes) -> Vec<Slab> {
    let mut slabs = Vec::new();
    for (tensor, planned) in plan.tensors.iter().enumerate() {
        let total = planned.elements();
        let granule = granule(source, planned);
        let tile = granule.max(sizes.tile / granule * granule).min(total.max(1));
        let tile_bytes = planned.spec.ty.bytes_for(tile).unwrap_or(1).max(1);
        let slab = tile * (sizes.slab_bytes / tile_bytes).max(1);
        let mut first = 0;
        while first < total {
            let elements = slab.min(total - first);
            slabs.push(Slab { tensor, first, elements, tile });
            first += elements;
        }
    }
    slabs
}

/// An encoded slab.
pub(super) struct Encoded {
    pub(super) slab: Slab,
    buffer: Vec<u8>,
    len: usize,
    pub(super) checksum: u64,
    pub(super) errors: Option<ErrorSums>,
}

impl Encoded {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The buffer, for the next slab.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// What to do with slabs.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) plan: &'a Plan,
    /// Whether encoded slabs are decoded again and compared with the source.
    pub(super) measure: bool,
}

/// Buffers of one thread.
#[derive(Default)]
pub(super) struct Worker {
    source: Vec<u8>,
    numbers: Vec<f32>,
    again: Vec<f32>,
}

/// The first `len` elements of a buffer, which grows but never shrinks.
fn room<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

impl Worker {
    /// Encodes a slab into `buffer`, whose content does not matter.
    pub(super) fn encode(&mut self, job: Job<'_>, slab: Slab, mut buffer: Vec<u8>) -> Result<Encoded, Error> {
        let planned = &job.plan.tensors[slab.tensor];
        let (from, to) = (planned.source_type, planned.spec.ty);
        let (_, len) = slab.bytes(job.plan);
        let mut rest = room(&mut buffer, len);
        let mut errors = (job.measure && from != to).then(ErrorSums::default);
        let mut done = 0;
        while done < slab.elements {
            let elements = slab.tile.min(slab.elements - done);
            let (out, after) = rest.split_at_mut(bytes(to, elements));
            rest = after;
            let first = slab.first + done;
            let offset = from.bytes_for(first).unwrap_or(0);
            if from == to {
                job.source.read(planned.source, offset, out)?;
                self.check_copied(job.source, planned, first, elements, out)?;
            } else {
                let read = room(&mut self.source, bytes(from, elements));
                job.source.read(planned.source, offset, read)?;
                let numbers = room(&mut self.numbers, index(elements));
                formats::decode(from, read, numbers);
                check_finite(job.source, planned, first, numbers)?;
                encode_as(to, planned, first, numbers, out);
                self.check_encoded(job.source, planned, first, elements, out)?;
                let numbers = &self.numbers[..index(elements)];
                if let Some(errors) = &mut errors {
                    let again = room(&mut self.again, index(elements));
                    formats::decode(to, out, again);
                    errors.add(numbers, again, first, to);
                }
            }
            done += elements;
        }
        let checksum = checksum(&buffer[..len]);
        Ok(Encoded { slab, buffer, len, checksum, errors })
    }

    /// Checks that the encoded numbers are finite: a scale in half precision may have overflowed.
    fn check_encoded(
        &mut self,
        source: &dyn Source,
        planned: &PlannedTensor,
        first: u64,
        elements: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let numbers = &self.numbers[..index(elements)];
        let large = |x: f32| x.abs() > half::f16::MAX.to_f32();
        if planned.spec.ty == TensorType::F32 || !numbers.iter().fold(false, |any, &x| any | large(x)) {
            return Ok(());
        }
        let again = room(&mut self.again, index(elements));
        formats::decode(planned.spec.ty, bytes, again);
        let Some(at) = again.iter().position(|x| !x.is_finite()) else { return Ok(()) };
        // The greatest number nearby is the cause.
        let block = numbers[at / 256 * 256..].iter().take(256);
        let value = block.fold(0.0, |most: f32, &x| if x.abs() > most.abs() { x } else { most });
        Err(Error::TooLarge {
            path: source.path().to_owned(),
            name: planned.spec.name.clone(),
            index: first + at as u64,
            value,
            ty: planned.spec.ty,
        })
    }

    /// Checks that numbers that are copied are finite.
    fn check_copied(
        &mut self,
        source: &dyn Source,
        planned: &PlannedTensor,
        first: u64,
        elements: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let ty = planned.source_type;
        let suspicious = match ty {
            TensorType::F32 => any(bytes, |x| u32::from_le_bytes(x) & 0x7f80_0000 == 0x7f80_0000),
            TensorType::F16 => any(bytes, |x| u16::from_le_bytes(x) & 0x7c00 == 0x7c00),
            TensorType::BF16 => any(bytes, |x| u16::from_le_bytes(x) & 0x7f80 == 0x7f80),
            _ => formats::codec(ty).is_some(),
        };
        if !suspicious {
            return Ok(());
        }
        let numbers = room(&mut self.numbers, index(elements));
        formats::decode(ty, bytes, numbers);
        check_finite(source, planned, first, numbers)
    }
}

/// Whether `kind` is true for any of the little-endian numbers of `N` bytes. Checks all without stopping early, so that the
/// compiler can use vectors.
fn any<const N: usize>(bytes: &[u8], kind: impl Fn([u8; N]) -> bool) -> bool {
    bytes.as_chunks::<N>().0.iter().fold(false, |found, &x| found | kind(x))
}

fn check_finite(source: &dyn Source, planned: &PlannedTensor, first: u64, numbers: &[f32]) -> Result<(), Error> {
    let finite = |x: f32| x.to_bits() & 0x7f80_0000 != 0x7f80_0000;
    if numbers.iter().fold(true, |all, &x| all & finite(x)) {
        return Ok(());
    }
    let at = numbers.iter().position(|&x| !finite(x)).unwrap_or(0);
    Err(Error::NotFinite {
        path: source.path().to_owned(),
        name: planned.spec.name.clone(),
        index: first + at as u64,
        value: numbers[at],
    })
}
