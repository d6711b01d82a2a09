//! An estimate of the peak memory of carrying out a plan: the slabs that may wait to be written, the buffers of all threads,
//! and the tables of the model.

use std::path::Path;

use super::progress::{RunOptions, width};
use super::slab::{Sizes, Slab, cut};
use super::{Error, Plan, Source};

/// The program itself, with the stacks of its threads.
const PROGRAM_BYTES: u64 = 16 << 20;
/// Bytes of a tensor in all tables that contain it: those of the source, the plan, the file, and the file that is read back.
const TENSOR_BYTES: u64 = 2 << 10;
/// Copies of the header: planned, written, and read back.
const HEADERS: u64 = 3;

/// An upper bound on the memory, in bytes, of the whole program while [`run`](super::run) carries out `plan`.
#[must_use]
pub fn memory_bytes(source: &dyn Source, plan: &Plan, options: &RunOptions) -> u64 {
    let slabs = cut(source, plan, Sizes::default());
    let largest = slabs.iter().map(|slab| slab.bytes(plan).1).max().unwrap_or(0);
    let width = width(options.threads(), largest.max(1));
    // A tensor's first slab is its largest.
    let first = slabs.chunk_by(|a, b| a.tensor == b.tensor).filter_map(<[Slab]>::first);
    let worker = first.map(|slab| slab.worker_bytes(source, plan, options.stats)).max().unwrap_or(0);
    let header = plan.file_bytes.saturating_sub(plan.tensor_bytes());
    [
        PROGRAM_BYTES,
        HEADERS.saturating_mul(header),
        TENSOR_BYTES.saturating_mul(plan.tensors.len() as u64),
        // A slab and its checksum.
        (slabs.len() * (size_of::<Slab>() + size_of::<u64>())) as u64,
        // Measured: while the disk stalls, the allocator leaves up to 26 MiB unused between 64 slabs of one MiB.
        (largest as u64).saturating_mul(width.window.min(slabs.len()) as u64).saturating_mul(3) / 2,
        worker.saturating_mul(width.threads.min(slabs.len()) as u64),
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

/// Checks that `bytes` of memory for making the file `path` are `available`; if that is not known, it succeeds.
///
/// # Errors
/// [`Error::NoMemory`] when less memory is available.
pub fn check_memory(path: &Path, bytes: u64, available: Option<u64>) -> Result<(), Error> {
    match available {
        Some(available) if available < bytes => Err(Error::NoMemory { path: path.to_owned(), bytes, available }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{FileType, GgufSource, Options, Plan, RunOptions};
    use super::{check_memory, memory_bytes};
    use crate::TensorType;
    use crate::gguf::{Metadata, Reader, TensorSpec, Writer};

    #[test]
    fn memory_depends_on_threads_and_not_on_the_model() {
        let reader = |rows: u64| {
            let mut metadata = Metadata::new();
            metadata.set("general.architecture", "llama");
            metadata.set("llama.block_count", 1u32);
            let spec = TensorSpec { name: "blk.0.ffn_up.weight".into(), shape: vec![2048, rows], ty: TensorType::F16 };
            let mut writer = Writer::to_sink(Vec::new(), "model", &metadata, &[spec]).expect("valid");
            writer.write_tensor(&vec![0; 2048 * 2 * usize::try_from(rows).expect("few")]).expect("written");
            Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid")
        };
        let needed = |rows, threads, stats| {
            let reader = reader(rows);
            let source = GgufSource::new(&reader);
            let plan = Plan::new(&source, &Options::new(FileType::F16)).expect("a plan");
            memory_bytes(&source, &plan, &RunOptions { threads, stats, ..RunOptions::default() })
        };
        // The window is of 64 slabs of a MiB, as many as 16384 rows make; a thread has a tile of 32 Ki elements in F16
        // and as floats.
        let (tile, mib) = (32 << 10, 1 << 20);
        assert_eq!(needed(16384, 2, false) / mib, 16 + 64 * 3 / 2);
        assert_eq!(needed(16384, 2, true) - needed(16384, 2, false), 2 * tile * 4);
        assert!(needed(20480, 2, false) - needed(16384, 2, false) < 4096);
        assert_eq!(needed(1024, 2, false) / mib, 16 + 4 * 3 / 2);
        assert!(needed(16384, 50, false) - needed(16384, 2, false) >= 48 * tile * 6);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let path = Path::new("out.gguf");
        assert!(check_memory(path, 1000, Some(1000)).is_ok() && check_memory(path, 1000, None).is_ok());
        let error = check_memory(path, 1000, Some(999)).expect_err("too much").to_string();
        assert_eq!(error, "out.gguf: no memory: needs 1000 bytes, 999 are available");
    }
}
