//! Options of carrying out a plan, and its progress.

use super::stream::Width;
use crate::gguf::ByteOrder;

/// Bytes of slabs that may wait to be written, so that a short stall of the disk does not stop the threads.
const WINDOW_BYTES: usize = 64 << 20;

const MAX_WINDOW: usize = 64;

/// Options of carrying out a plan.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Whether an existing output is replaced.
    pub force: bool,
    /// Threads that encode; 0 means one per core.
    pub threads: usize,
    /// Whether the output is read back and compared before it appears under its name.
    pub verify: bool,
    /// Whether the errors of quantizing are measured.
    pub stats: bool,
    /// Byte order of the output.
    pub byte_order: ByteOrder,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { force: false, threads: 0, verify: true, stats: false, byte_order: ByteOrder::Little }
    }
}

impl RunOptions {
    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            n => n,
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Tensors are encoded and written.
    Writing,
    /// The output is read back.
    Checking,
}

/// Bytes done and all bytes, of the output's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done.
    pub done: u64,
    /// Bytes to do.
    pub total: u64,
}

/// As many slabs as fit the bound, but at least one for each thread and one for the writer.
pub(super) fn width(threads: usize, max_slab_bytes: usize) -> Width {
    let least = threads + 2;
    let window = (WINDOW_BYTES / max_slab_bytes.max(1)).clamp(least, MAX_WINDOW.max(least));
    Width { threads, window }
}
