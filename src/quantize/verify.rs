//! Reads back what has been written and compares it with what was to be written.

use super::slab::Slab;
use super::stream::{Width, ordered};
use super::{Error, Phase, Plan, Progress};
use crate::gguf::{CompleteModel, Metadata, Reader, TensorInfo, TensorSpec, Value};

/// Reads all of `model` and compares headers and the checksum of each slab.
///
/// # Errors
/// When something cannot be read or differs from what was written, or `progress` returns false.
pub(super) fn read_back(
    model: &CompleteModel,
    plan: &Plan,
    slabs: &[Slab],
    checksums: &[u64],
    width: Width,
    progress: &dyn Fn(Progress) -> bool,
) -> Result<(), Error> {
    let readers = model.read_back()?;
    let path = |shard: usize| model.paths().get(shard).cloned().unwrap_or_default();
    if readers.len() != plan.shards {
        return Err(Error::ReadBackHeader { path: path(0) });
    }
    for (shard, (reader, tensors)) in readers.iter().zip(plan.files()).enumerate() {
        let as_planned = reader.tensors().iter().map(TensorSpec::from).eq(tensors);
        if !as_planned || shard == 0 && !holds(reader.metadata(), &plan.metadata) {
            return Err(Error::ReadBackHeader { path: path(shard) });
        }
    }
    let places = places(plan, &readers);
    let total = plan.tensor_bytes();
    let mut done = 0;
    let read = |buffer: &mut Vec<u8>, item: usize| -> Result<(u64, u64), Error> {
        let slab = &slabs[item];
        let (offset, len) = slab.bytes(plan);
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let (reader, info) = places[slab.tensor];
        reader.read_at(info, offset, &mut buffer[..len])?;
        Ok((super::checksum::checksum(&buffer[..len]), len as u64))
    };
    ordered(slabs.len(), width, Vec::new, read, |item, (checksum, bytes)| {
        if checksum != checksums[item] {
            let planned = &plan.tensors[slabs[item].tensor];
            return Err(Error::ReadBack { path: path(planned.shard), name: planned.spec.name.clone() });
        }
        done += bytes;
        if progress(Progress { phase: Phase::Checking, done, total }) { Ok(()) } else { Err(Error::Stopped) }
    })
}

/// Where each tensor of the plan is.
fn places<'a>(plan: &Plan, readers: &'a [Reader]) -> Vec<(&'a Reader, &'a TensorInfo)> {
    let mut left: Vec<_> = readers.iter().map(|reader| reader.tensors().iter()).collect();
    let place = |shard: usize| (&readers[shard], left[shard].next().expect("tables have been compared"));
    plan.tensors.iter().map(|tensor| tensor.shard).map(place).collect()
}

/// Whether `found` has all of `planned`; a split file has further keys.
fn holds(found: &Metadata, planned: &Metadata) -> bool {
    // NaN does not equal itself.
    let same = |a: &Value, b: &Value| a == b || format!("{a:?}") == format!("{b:?}");
    planned.iter().all(|(key, value)| found.get(key).is_some_and(|found| same(found, value)))
}
