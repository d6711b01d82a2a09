//! What the standard library does not offer of the system: mapped files, reserved space on disk, and a word instead of
//! silence when a mapped file is cut short.

#![allow(unsafe_code, reason = "mapping a file and handling signals are system calls")]

use std::io;

use memmap2::{Mmap, MmapOptions};

use crate::input_file::InputFile;

/// Maps a file, as long as it was when it was opened, read-only.
pub(super) fn map(file: &InputFile) -> io::Result<Mmap> {
    let len = usize::try_from(file.size()).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // SAFETY: the mapping is read-only, and whoever uses it reads plain numbers, for which every byte pattern is valid:
    // a change of the file by another process changes numbers. Bytes cut off raise SIGBUS, which ends the process.
    unsafe { MmapOptions::new().len(len).map(file.file()) }
}
