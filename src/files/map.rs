//! Files mapped into memory, with their names for the signal handler of reads from a file that has been truncated.

#![allow(unsafe_code, reason = "mapping a file is a system call")]

use std::io;
use std::sync::{Mutex, PoisonError};

use memmap2::{Mmap, MmapOptions};

use super::InputFile;
use crate::printable::printable_path;

/// A file in memory, read-only.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: Mmap,
}

/// Address range and printable path of a mapped file.
struct Mapping {
    start: usize,
    len: usize,
    path: String,
}

/// All mapped files of this process, so that the message about a fault can name the file.
static MAPPINGS: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

impl MappedFile {
    /// Maps a file with the size that it had when it was opened.
    pub(crate) fn new(file: &InputFile) -> io::Result<Self> {
        let len = usize::try_from(file.size()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the mapping is read-only, and whoever uses it reads plain numbers, for which every byte pattern is
        // valid: a change of the file by another process changes numbers. Bytes cut off raise SIGBUS.
        let map = unsafe { MmapOptions::new().len(len).map(file.file()) }?;
        let path = printable_path(file.path()).to_string();
        let mapping = Mapping { start: map.as_ptr().addr(), len, path };
        MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner).push(mapping);
        Ok(Self { map })
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        let start = self.map.as_ptr().addr();
        MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner).retain(|mapping| mapping.start != start);
    }
}

/// For signal handlers: gives `tell` the printable path of the mapped file that `address` lies in, or `None` where it
/// lies in none or the list of mapped files is in use. Takes no memory, and waits for no lock.
pub fn mapped_file_at<T>(address: usize, tell: impl FnOnce(Option<&str>) -> T) -> T {
    let mappings = MAPPINGS.try_lock();
    let mut mappings = mappings.iter().flat_map(|mappings| mappings.iter());
    let hit = mappings.find(|mapping| address.wrapping_sub(mapping.start) < mapping.len);
    tell(hit.map(|mapping| mapping.path.as_str()))
}
