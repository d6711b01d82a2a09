//! Windows counts the memory of the machine. It does not tell a process which of its pages are of mapped files.

#![allow(unsafe_code, reason = "the standard library has no call for the memory of the machine")]

use windows_sys::Win32::System::SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX};

use super::Memory;

/// [`super::of_process`].
pub(super) fn of_process() -> Option<Memory> {
    None
}

/// [`super::available`].
pub(super) fn available() -> Option<u64> {
    let mut status = MEMORYSTATUSEX { dwLength: size_of::<MEMORYSTATUSEX>() as u32, ..MEMORYSTATUSEX::default() };
    // SAFETY: the structure says how long it is.
    let found = unsafe { GlobalMemoryStatusEx(&raw mut status) } != 0;
    found.then_some(status.ullAvailPhys)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_says_what_it_has() {
        assert!(super::available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
