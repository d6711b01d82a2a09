//! Carries out a plan: slabs are read, decoded, encoded and measured on all threads, and written in order.
//! Memory is bounded, whatever the size of a tensor.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::needs::{check_memory, memory_bytes};
use super::progress::{Phase, Progress, RunOptions, width};
use super::slab::{Encoded, Job, Sizes, Slab, Worker, cut};
use super::stats::{ErrorSums, ModelError};
use super::stream::{Width, ordered};
use super::verify::read_back;
use super::{Error, Plan, Source};
use crate::files::Overwrite;
use crate::gguf::{self, SplitWriter, Writer};
use crate::memory;

/// The result of carrying out a plan.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// Their bytes together.
    pub file_bytes: u64,
    /// The errors of quantizing, if they were measured.
    pub errors: Option<ModelError>,
}

/// Writes the model of `plan` to `path`; several files get the numbers of shards in their names. `progress` is called after
/// every slab, and stops the work by returning false.
///
/// # Errors
/// When there is too little memory, the source cannot be read, has changed, or has NaN or infinite weights, or the output
/// cannot be written. Nothing is left of the output then.
pub fn run(
    source: &dyn Source,
    plan: &Plan,
    path: &Path,
    options: &RunOptions,
    progress: &dyn Fn(Progress) -> bool,
) -> Result<Outcome, Error> {
    plan.check_importance(source)?;
    check_memory(path, memory_bytes(source, plan, options), memory::available())?;
    let ids = source.file_ids();
    let overwrite = if options.force { Overwrite::Replace { inputs: &ids } } else { Overwrite::Refuse };
    let mut writer = SplitWriter::create_in_order(path, overwrite, options.byte_order, &plan.metadata, &plan.files())?;
    let written = Execution { source, plan, options, sizes: Sizes::default() }
        .write(&mut |bytes| writer.write_tensor(bytes), progress)?;
    let complete = writer.complete()?;
    if options.verify {
        read_back(&complete, plan, &written.slabs, &written.checksums, written.width, progress)?;
    }
    // As late as possible: the model must not have changed while it was read.
    source.check_unchanged()?;
    let paths = complete.paths().to_vec();
    Ok(Outcome { paths, file_bytes: complete.place()?, errors: written.errors })
}

/// As [`run`], to memory: for models as small as the embedded one.
///
/// # Errors
/// As [`run`], but for the output.
pub fn run_in_memory(source: &dyn Source, plan: &Plan) -> Result<Vec<u8>, Error> {
    plan.check_importance(source)?;
    let mut writer = Writer::to_sink(Vec::new(), "memory", &plan.metadata, &plan.files().concat())?;
    Execution { source, plan, options: &RunOptions::default(), sizes: Sizes::default() }
        .write(&mut |bytes| writer.write_tensor(bytes), &|_| true)?;
    source.check_unchanged()?;
    Ok(writer.into_sink()?)
}

/// A plan that is being carried out.
struct Execution<'a> {
    source: &'a dyn Source,
    plan: &'a Plan,
    options: &'a RunOptions,
    sizes: Sizes,
}

/// What is known once all tensors are written.
struct Written {
    slabs: Vec<Slab>,
    checksums: Vec<u64>,
    width: Width,
    errors: Option<ModelError>,
}

impl Execution<'_> {
    fn write(
        &self,
        write: &mut dyn FnMut(&[u8]) -> Result<(), gguf::Error>,
        progress: &dyn Fn(Progress) -> bool,
    ) -> Result<Written, Error> {
        let plan = self.plan;
        let slabs = cut(self.source, plan, self.sizes);
        let width = width(self.options.threads(), slabs.iter().map(|slab| slab.bytes(plan).1).max().unwrap_or(1));
        let job = Job { source: self.source, plan, measure: self.options.stats };
        let total = plan.tensor_bytes();
        let mut done = 0;
        let mut checksums = Vec::with_capacity(slabs.len());
        let mut errors: Vec<Option<ErrorSums>> = vec![None; plan.tensors.len()];
        let spare: Mutex<Vec<Vec<u8>>> = Mutex::default();
        let spare = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        let encode = |worker: &mut Worker, item: usize| -> Result<Encoded, Error> {
            let buffer = spare().pop().unwrap_or_default();
            worker.encode(job, slabs[item], buffer)
        };
        ordered(slabs.len(), width, Worker::default, encode, |_, encoded| {
            write(encoded.bytes())?;
            checksums.push(encoded.checksum);
            if let Some(more) = &encoded.errors {
                errors[encoded.slab.tensor].get_or_insert_default().append(more);
            }
            done += encoded.bytes().len() as u64;
            spare().push(encoded.into_buffer());
            if progress(Progress { phase: Phase::Writing, done, total }) { Ok(()) } else { Err(Error::Stopped) }
        })?;
        let errors = self.options.stats.then(|| ModelError::new(plan, errors));
        Ok(Written { slabs, checksums, width, errors })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::slab::Sizes;
    use super::super::{Error, FileType, GgufSource, Options, Plan};
    use super::{Execution, Phase, Progress, RunOptions, SplitWriter, read_back, run};
    use crate::TensorType;
    use crate::files::{Overwrite, read_exact_at, write_all_at};
    use crate::gguf::{Metadata, Reader, TensorSpec, Writer};

    /// A model of unusual shapes, with numbers of all sizes.
    fn model() -> Reader {
        let mut metadata = Metadata::new();
        metadata.set("general.architecture", "llama");
        metadata.set("llama.block_count", 2u32);
        let spec = |name: &str, shape: &[u64], ty| TensorSpec { name: name.into(), shape: shape.into(), ty };
        let specs = [
            spec("token_embd.weight", &[256, 300], TensorType::F16),
            spec("blk.0.attn_norm.weight", &[256], TensorType::F32),
            spec("blk.0.ffn_down.weight", &[96, 256], TensorType::F32),
            spec("blk.0.ffn_up.weight", &[512, 33, 5], TensorType::BF16),
            spec("blk.1.empty.weight", &[256, 0], TensorType::F16),
        ];
        let mut writer = Writer::to_sink(Vec::new(), "model", &metadata, &specs).expect("valid");
        let mut seed = 1u32;
        for spec in &specs {
            let count: u64 = spec.shape.iter().product();
            let mut bytes = Vec::new();
            for _ in 0..count {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let x = f32::from(i16::try_from(seed >> 17).expect("15 bits") - 16_000) / 9e4;
                match spec.ty {
                    TensorType::F32 => bytes.extend(x.to_le_bytes()),
                    TensorType::F16 => bytes.extend(half::f16::from_f32(x).to_le_bytes()),
                    _ => bytes.extend(half::bf16::from_f32(x).to_le_bytes()),
                }
            }
            writer.write_tensor(&bytes).expect("written");
        }
        Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid")
    }

    #[test]
    fn neither_threads_nor_pieces_change_the_output() {
        let reader = model();
        let source = GgufSource::new(&reader);
        for file_type in [FileType::Q4_K_M, FileType::Q8_0, FileType::F32, FileType::BF16] {
            let plan = Plan::new(&source, &Options::new(file_type)).expect("a plan");
            let mut first: Option<(Vec<u8>, Vec<_>)> = None;
            for threads in [1, 2, 3, 8] {
                for (tile, slab_bytes) in [(1, 1), (300, 5000), (4096, 1 << 14), (32 << 10, 1 << 20)] {
                    let options = RunOptions { threads, stats: true, ..RunOptions::default() };
                    let sizes = Sizes { tile, slab_bytes };
                    let mut bytes = Vec::new();
                    let written = Execution { source: &source, plan: &plan, options: &options, sizes }
                        .write(
                            &mut |more| {
                                bytes.extend_from_slice(more);
                                Ok(())
                            },
                            &|_| true,
                        )
                        .expect("made");
                    assert_eq!(bytes.len() as u64, plan.tensor_bytes());
                    let errors = written.errors.expect("measured").tensors;
                    // Sums over other slabs may differ in their last digits; nothing else may differ.
                    let errors: Vec<_> = errors
                        .into_iter()
                        .map(|e| (e.name, e.max_error, e.max_at, e.worst_block, e.worst_rmse))
                        .collect();
                    match &first {
                        None => first = Some((bytes, errors)),
                        Some(first) => assert!(*first == (bytes, errors), "{file_type} {threads} {tile} {slab_bytes}"),
                    }
                }
            }
        }
    }

    /// An empty folder, removed with the value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gguf-run-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("folder");
            Self(path)
        }

        fn files(&self) -> Vec<PathBuf> {
            fs::read_dir(&self.0).expect("folder").map(|entry| entry.expect("entry").path()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("remove");
        }
    }

    #[test]
    fn a_disk_that_forgets_is_found_out() {
        let reader = model();
        let source = GgufSource::new(&reader);
        let plan = Plan::new(&source, &Options::new(FileType::Q8_0)).expect("a plan");
        let folder = Folder::new("forgets");
        // Bytes of the header, of a key, of the first and of the last tensor; then none.
        let size = plan.file_bytes;
        for change in [Some(0), Some(40), Some(size - plan.tensor_bytes()), Some(size - 40), None] {
            let options = RunOptions::default();
            let mut writer =
                SplitWriter::create(&folder.0.join("out"), Overwrite::Refuse, &plan.metadata, &plan.files())
                    .expect("begun");
            let written = Execution { source: &source, plan: &plan, options: &options, sizes: Sizes::default() }
                .write(&mut |bytes| writer.write_tensor(bytes), &|_| true)
                .expect("made");
            let complete = writer.complete().expect("complete");
            if let Some(at) = change {
                let file = fs::File::options().read(true).write(true).open(&folder.files()[0]).expect("opens");
                let mut byte = [0];
                read_exact_at(&file, &mut byte, at).expect("read");
                write_all_at(&file, &[byte[0] ^ 1], at).expect("written");
            }
            let result = read_back(&complete, &plan, &written.slabs, &written.checksums, written.width, &|_| true);
            match change {
                None => assert!(result.is_ok(), "{result:?}"),
                Some(0) => assert!(matches!(result, Err(Error::File(_))), "{result:?}"),
                Some(40) => assert!(matches!(result, Err(Error::ReadBackHeader { .. })), "{result:?}"),
                Some(_) => assert!(matches!(result, Err(Error::ReadBack { .. })), "{result:?}"),
            }
            drop(complete);
            assert!(folder.files().is_empty());
        }
    }

    #[test]
    fn work_can_be_stopped_at_any_time() {
        let reader = model();
        let source = GgufSource::new(&reader);
        let plan = Plan::new(&source, &Options::new(FileType::Q4_K_S)).expect("a plan");
        let folder = Folder::new("stopped");
        for phase in [Phase::Writing, Phase::Checking] {
            let go_on = |progress: Progress| progress.phase != phase;
            let result = run(&source, &plan, Path::new(&folder.0.join("out")), &RunOptions::default(), &go_on);
            assert!(matches!(result, Err(Error::Stopped)), "{result:?}");
            assert!(folder.files().is_empty());
        }
    }
}
