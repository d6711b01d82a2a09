//! Free space on the disk, and the page cache of a file.

#![allow(unsafe_code, reason = "the standard library has no call for either")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// Reserves space for the first `bytes` bytes of a new file. If the file system cannot reserve, its free space is checked
/// instead.
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

/// Asks the system to drop the pages of a file from the page cache; it drops those that are on the disk.
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
