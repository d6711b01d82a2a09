//! Exceptions of Windows. Mapped files of its own disks cannot be cut short; those of other machines can go away.

#![allow(unsafe_code, reason = "exception handlers are unsafe to write")]

use std::ptr;

use windows_sys::Win32::Foundation::EXCEPTION_IN_PAGE_ERROR;
use windows_sys::Win32::Storage::FileSystem::WriteFile;
use windows_sys::Win32::System::Console::{GetStdHandle, STD_ERROR_HANDLE};
use windows_sys::Win32::System::Diagnostics::Debug::{
    AddVectoredExceptionHandler, EXCEPTION_CONTINUE_SEARCH, EXCEPTION_POINTERS,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

/// [`super::install_handlers`].
pub(super) fn install_handlers() {
    // SAFETY: the handler has the signature that is asked for, and lives as long as the process.
    unsafe { AddVectoredExceptionHandler(1, Some(on_exception)) };
}

/// [`super::raise_open_files`]: there is no such limit.
#[cfg(feature = "serve")]
pub(super) const fn raise_open_files() {}

extern "system" fn on_exception(exception: *mut EXCEPTION_POINTERS) -> i32 {
    // SAFETY: the system passes a record of what has happened.
    let record = unsafe { &*(*exception).ExceptionRecord };
    if record.ExceptionCode == EXCEPTION_IN_PAGE_ERROR && record.NumberParameters >= 2 {
        super::end_at(record.ExceptionInformation[1])
    }
    EXCEPTION_CONTINUE_SEARCH
}

/// Writes to standard error and ends the process with exit code 2, without memory, locks, or running anything of it.
pub(super) fn end(parts: &[&[u8]]) -> ! {
    for part in parts {
        let (len, mut written) = (u32::try_from(part.len()).unwrap_or(0), 0);
        // SAFETY: pointer and length are those of a live slice, and there is room for how many bytes were written.
        unsafe { WriteFile(GetStdHandle(STD_ERROR_HANDLE), part.as_ptr(), len, &raw mut written, ptr::null_mut()) };
    }
    loop {
        // SAFETY: ends the process at once.
        unsafe { TerminateProcess(GetCurrentProcess(), 2) };
    }
}
