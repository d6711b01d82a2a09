//! Signals of unixes.

#![allow(unsafe_code, reason = "signal handlers are unsafe to write")]

use std::mem::MaybeUninit;
use std::ptr;

/// [`super::install_handlers`].
pub(super) fn install_handlers() {
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

/// [`super::raise_open_files`].
#[cfg(feature = "serve")]
pub(super) fn raise_open_files() {
    // macOS takes no more than this, whatever it says.
    const MOST: libc::rlim_t = 10_240;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to a live structure.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < MOST {
            limit.rlim_cur = MOST.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

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
    super::end_at(address)
}

/// Writes to standard error and ends the process with exit code 2, without memory, locks, or running anything of it.
pub(super) fn end(parts: &[&[u8]]) -> ! {
    for part in parts {
        // SAFETY: pointer and length are those of a live slice.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(2) }
}
