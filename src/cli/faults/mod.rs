//! What this process does when memory, a mapped file or the limit of a file's size ends under it: one line and an exit
//! code, and no unfinished outputs. A file a system says how the system is made to tell.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};

use gguf_toolkit::files::{mapped_file_at, try_remove_temporaries};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// A mapped file that is cut short ends the process with one line and exit code 2 instead of a silent
/// signal, and a file that outgrows the process's limit gives an error instead of a signal.
///
/// Unfinished outputs are removed. There is no way to go on: the bytes that were asked for do not exist.
pub(crate) fn install_handlers() {
    system::install_handlers();
}

/// Lets the process open as many files and connections as the system allows it.
#[cfg(feature = "serve")]
pub(crate) fn raise_open_files() {
    system::raise_open_files();
}

/// What a handler does about a read at `address` of a mapped file that has no such bytes any more. It runs on the thread
/// that read, in the middle of that read: that holds no lock of this crate, and locks are only tried.
fn end_at(address: usize) -> ! {
    try_remove_temporaries();
    mapped_file_at(address, |path| {
        let path = path.unwrap_or("a mapped file");
        system::end(&[b"\nerror: ", path.as_bytes(), b": cut short while it was in use\n"])
    })
}

/// An allocator that ends the process with one line and exit code 2 where there is no memory left, in place
/// of an abort. Unfinished outputs are removed.
pub(crate) struct ExitWhenFull;

/// Ends the process unless there is memory at `pointer`.
fn require(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        try_remove_temporaries();
        // Decimal digits, without asking for memory.
        let (mut digits, mut first, mut rest) = ([b'0'; 20], 20, bytes);
        while rest > 0 && first > 0 {
            first -= 1;
            digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        system::end(&[b"error: not enough memory: ", &digits[first..], b" bytes more were needed\n"]);
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
