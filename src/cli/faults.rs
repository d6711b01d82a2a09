//! What this process does when memory, a mapped file or the limit of a file's size ends under it: one line and an exit
//! code, and no unfinished outputs.

#![allow(unsafe_code, reason = "an allocator and signal handlers are unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;
use std::ptr;

use gguf::files::{mapped_file_at, try_remove_temporaries};

/// A mapped file that is cut short ends the process with one line and exit code 2 instead of a silent
/// signal, and a file that outgrows the process's limit gives an error instead of a signal.
///
/// Unfinished outputs are removed. There is no way to go on: the bytes that were asked for do not exist.
pub(crate) fn install_handlers() {
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
    try_remove_temporaries();
    mapped_file_at(address, |path| {
        for part in ["\nerror: ", path.unwrap_or("a mapped file"), ": cut short while it was in use\n"] {
            // SAFETY: pointer and length are those of a live string.
            unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
        }
    });
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(2) }
}
