//! Carries a plan out: slabs of rows are read, decoded and encoded on all threads while the slabs before them are
//! written. Memory is a few slabs a thread, whatever the size of a tensor.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use super::{Error, Plan, PlannedTensor, Source};
use crate::gguf::{Overwrite, TensorSpec, Writer};
use crate::kernels;
use crate::quant;

/// Bytes of weights that a slab holds as floats, about.
const SLAB_BYTES: u64 = 4 << 20;
/// Slabs a thread that are worked on at once.
const SLABS_PER_THREAD: usize = 2;

/// Some rows of a tensor.
#[derive(Clone, Copy, Debug)]
struct Slab {
    tensor: usize,
    first_row: u64,
    rows: u64,
}

/// Bytes done and all bytes, of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written.
    pub done: u64,
    /// Bytes to write.
    pub total: u64,
}

/// Writes what `plan` says to `path`, and returns the bytes of the file. `progress` is told of every few slabs, and
/// stops the work by returning false.
///
/// # Errors
/// When the source cannot be read or has changed, holds what is no number, or the output cannot be written. Then
/// nothing is left of it.
pub fn run(
    source: &dyn Source,
    plan: &Plan,
    path: &Path,
    force: bool,
    progress: &(dyn Fn(Progress) -> bool + Sync),
) -> Result<u64, Error> {
    let ids = source.file_ids();
    let overwrite = if force { Overwrite::Replace { inputs: &ids } } else { Overwrite::Refuse };
    let specs: Vec<TensorSpec> = plan.tensors.iter().map(|t| t.spec.clone()).collect();
    let writer = Writer::create(path, overwrite, &plan.metadata, &specs)?;
    Ok(fill(source, plan, writer, progress)?.finish()?)
}

/// As [`run`], to memory: for models as small as the embedded one.
///
/// # Errors
/// As [`run`], but for the output.
pub fn run_in_memory(source: &dyn Source, plan: &Plan) -> Result<Vec<u8>, Error> {
    let specs: Vec<TensorSpec> = plan.tensors.iter().map(|t| t.spec.clone()).collect();
    let writer = Writer::to_sink(Vec::new(), "memory", &plan.metadata, &specs)?;
    Ok(fill(source, plan, writer, &|_| true)?.into_sink()?)
}

/// Writes all tensors.
fn fill<W: Write + Send>(
    source: &dyn Source,
    plan: &Plan,
    mut writer: Writer<W>,
    progress: &(dyn Fn(Progress) -> bool + Sync),
) -> Result<Writer<W>, Error> {
    let slabs = slabs(plan);
    let total = plan.tensor_bytes();
    let batch = rayon::current_num_threads().max(1) * SLABS_PER_THREAD;
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<Vec<Vec<u8>>>(1);
        let writing = scope.spawn(move || -> Result<Writer<W>, Error> {
            for pieces in receive {
                for piece in pieces {
                    writer.write_tensor(&piece)?;
                }
            }
            Ok(writer)
        });
        let mut done = 0;
        let mut failed = Ok(());
        for slabs in slabs.chunks(batch) {
            let encoded: Result<Vec<Vec<u8>>, Error> =
                slabs.par_iter().map(|slab| encode(source, &plan.tensors[slab.tensor], slab)).collect();
            match encoded {
                Ok(pieces) => {
                    done += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
                    // A writer that has failed no longer receives; its error is told below.
                    if send.send(pieces).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
            if !progress(Progress { done, total }) {
                failed = Err(Error::Stopped);
                break;
            }
        }
        drop(send);
        let writer = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        failed?;
        source.check_unchanged()?;
        writer
    })
}

/// All rows of all tensors, in order.
fn slabs(plan: &Plan) -> Vec<Slab> {
    let mut slabs = Vec::new();
    for (tensor, planned) in plan.tensors.iter().enumerate() {
        let row_bytes = planned.cols().max(1) * 4;
        let rows_per_slab = (SLAB_BYTES / row_bytes).max(1);
        let mut first_row = 0;
        while first_row < planned.rows() && planned.cols() > 0 {
            let rows = rows_per_slab.min(planned.rows() - first_row);
            slabs.push(Slab { tensor, first_row, rows });
            first_row += rows;
        }
    }
    slabs
}

/// The bytes of a slab in the output.
fn encode(source: &dyn Source, planned: &PlannedTensor, slab: &Slab) -> Result<Vec<u8>, Error> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (cols, from, to) = (size(planned.cols()), planned.source_type, planned.spec.ty);
    let row_bytes = from.row_bytes(cols);
    let mut bytes = vec![0; size(slab.rows) * row_bytes];
    source.read(planned.source, slab.first_row * row_bytes as u64, &mut bytes)?;
    if from == to {
        return Ok(bytes);
    }
    let mut numbers = vec![0.0; size(slab.rows) * cols];
    quant::decode(from, &bytes, &mut numbers);
    if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite {
            path: source.path().to_owned(),
            name: planned.spec.name.clone(),
            index: slab.first_row * cols as u64 + at as u64,
            value: numbers[at],
        });
    }
    let mut out = vec![0; size(slab.rows) * to.row_bytes(cols)];
    kernels::encode(to, &numbers, &mut out);
    Ok(out)
}
