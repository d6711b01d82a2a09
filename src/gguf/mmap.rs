//! What the standard library does not offer of the system: mapped files, a word instead of silence when one of them is
//! cut short, and room on the disk before the first byte is written.

#![allow(unsafe_code, reason = "mapping a file and handling signals are system calls")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use memmap2::{Mmap, MmapOptions};

use super::output;
use crate::input_file::InputFile;
use crate::printable::printable_path;

/// A file in memory, read-only.
#[derive(Debug)]
pub(super) struct MappedFile {
    map: Mmap,
}

/// Address range and printable path of a mapped file.
struct Mapping {
    start: usize,
    len: usize,
    path: String,
}

/// All mapped files of this process, so that a fault can be told with a name.
static MAPPINGS: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

impl MappedFile {
    /// Maps a file, as long as it was when it was opened.
    pub(super) fn new(file: &InputFile) -> io::Result<Self> {
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

/// Reserves room for the first `bytes` bytes of a new file. Where the file system cannot reserve, it is asked whether it
/// has as much.
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let len = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: the descriptor is open as long as `file` lives, and no memory is passed.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) } != 0 {
            let error = io::Error::last_os_error();
            if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)) {
                return Err(error);
            }
        } else {
            return Ok(());
        }
    }
    if free_bytes(file).is_ok_and(|free| free < bytes) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Asks the system to drop the pages of a file from memory: those that are on the disk go.
pub(super) fn forget_pages(file: &File) {
    #[cfg(target_os = "linux")]
    // SAFETY: the descriptor is open as long as `file` lives, and no memory is passed.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Bytes that this process may still write to the file system of an open file.
#[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other systems")]
pub(super) fn free_bytes(file: &File) -> io::Result<u64> {
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open as long as `file` lives, and there is room for the answer.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, and so has filled the answer.
    let answer = unsafe { answer.assume_init() };
    Ok((answer.f_bavail as u64).saturating_mul(answer.f_frsize as u64))
}

/// For programs: a mapped file that is cut short ends the process with one line and exit code 2 instead of a silent
/// signal, and a file that outgrows the process's limit gives an error instead of a signal.
///
/// Unfinished outputs are removed. There is no way to go on: the bytes that were asked for do not exist.
pub fn install_fault_handlers() {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    // SAFETY: all zero bytes are a valid `sigaction`, and the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let action = action.assume_init_mut();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, action, ptr::null_mut());
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// For programs: an allocator that ends the process with one line and exit code 2 where there is no memory left, in place
/// of an abort. Unfinished outputs are removed.
pub struct ExitWhenFull;

/// Ends the process unless there is memory at `pointer`.
fn require(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        output::try_remove_temporaries();
        // Decimal digits, without asking for memory.
        let (mut digits, mut first, mut rest) = ([b'0'; 20], 20, bytes);
        while rest > 0 && first > 0 {
            first -= 1;
            digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        for part in [&b"error: not enough memory: "[..], &digits[first..], b" bytes more were needed\n"] {
            // SAFETY: pointer and length are those of a live slice.
            unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
        }
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(2) };
    }
    pointer
}

// SAFETY: everything is left to the system's allocator; what it cannot give ends the process.
unsafe impl GlobalAlloc for ExitWhenFull {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same contract.
        require(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same contract.
        require(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the same contract.
        require(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs on the thread that read from the mapping, in the middle of that read: it holds no lock of this crate, and the
/// locks below are only tried.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid information with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code <= 0 {
        // Sent by a process, not by a read: do what the signal does by default.
        // SAFETY: resets the handler of this signal and raises it; both are allowed in a handler.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        return;
    }
    output::try_remove_temporaries();
    let mappings = MAPPINGS.try_lock();
    let hit = mappings
        .as_deref()
        .ok()
        .and_then(|mappings| mappings.iter().find(|mapping| address.wrapping_sub(mapping.start) < mapping.len));
    let path = hit.map_or("a mapped file", |mapping| &mapping.path);
    for part in ["\nerror: ", path, ": cut short while it was in use\n"] {
        // SAFETY: pointer and length are those of a live string.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(2) }
}
