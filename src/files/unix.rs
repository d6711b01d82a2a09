//! What Linux, macOS and other unixes are asked about files. [`super::windows`] has the same functions for Windows.

#![allow(unsafe_code, reason = "the standard library has no call for room on the disk")]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The environment variable that names the user's folder.
pub const HOME: &str = "HOME";

/// A copy of the listening socket that the program was started with as this descriptor, as systemd starts programs.
///
/// # Errors
/// When there is no such descriptor, or it is no TCP socket.
pub fn inherited_listener(descriptor: i32) -> io::Result<TcpListener> {
    // SAFETY: copies a descriptor, or fails where there is none.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the copy is open, and nobody else knows of it.
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(copy) });
    listener.local_addr()?;
    Ok(listener)
}

/// Opens what may be a file for reading. Never blocks (on a pipe, say).
pub(super) fn open_input(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// What it is that is no regular file.
pub(super) fn kind_of(metadata: &Metadata) -> &'static str {
    let ty = metadata.file_type();
    if ty.is_dir() {
        "directory"
    } else if ty.is_fifo() {
        "pipe"
    } else if ty.is_socket() {
        "socket"
    } else {
        "device"
    }
}

/// Two numbers that no other file on this machine has: of its volume, and of the file on it.
pub(super) fn identity(file: &File) -> io::Result<[u64; 2]> {
    file.metadata().map(|metadata| [metadata.dev(), metadata.ino()])
}

/// [`identity`] of what is at `path`.
pub(super) fn identity_at(path: &Path) -> io::Result<[u64; 2]> {
    fs::metadata(path).map(|metadata| [metadata.dev(), metadata.ino()])
}

/// Fills `buffer` with the bytes from `offset` on.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Writes `bytes` from `offset` on.
#[cfg(any(feature = "net", test))]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// The request of `ioctl` that makes a file share the blocks of another.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
const FICLONE: u64 = 0x4004_9409;

/// Makes the content of `to` that of `from`, which share their blocks of the disk until one of them is changed.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn reflink(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open for the time of the call, which changes no memory of this process.
    let result = unsafe { libc::ioctl(to.as_raw_fd(), FICLONE as _, from.as_raw_fd()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This system has no such call, or another one.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) fn reflink(_: &File, _: &File) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Bytes of the disk that the file at `path` takes, which may have holes.
pub(crate) fn bytes_on_disk(path: &Path) -> io::Result<u64> {
    fs::metadata(path).map(|metadata| metadata.blocks().saturating_mul(512))
}

/// Whether the file at `path` has other names besides.
pub(crate) fn has_other_names(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.nlink() > 1)
}

/// Makes `link` a symbolic link to the file `to`, which is relative to it.
#[cfg(feature = "net")]
pub(crate) fn symlink(to: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, link)
}

/// Opens a folder, to ask about its disk.
pub(super) fn open_folder(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Brings the names in a folder to the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|folder| folder.sync_all()) {
        // Some file systems cannot sync a folder, and one may write to a folder that one may not read.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied) => Ok(()),
        other => other,
    }
}

/// Checks that files can be made in a folder: a file without a name, which ends with its handle, is made there. Where
/// the file system has no such files, nothing is known, and that is no error.
#[cfg(target_os = "linux")]
pub(super) fn check_folder(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Err(error),
        _ => Ok(()),
    }
}

/// Checks that files can be made in a folder, as far as its permissions tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn check_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a string that ends with zero.
    if unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let denied = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
    if denied { Err(error) } else { Ok(()) }
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

/// Locks a temporary file for as long as it is open, where the file system can do that.
pub(super) fn hold(temporary: &File) {
    // Without locks, nothing is ever removed.
    let _ = temporary.try_lock();
}

/// Whether no living process holds a temporary file.
pub(super) fn is_nobodys(temporary: &File) -> bool {
    temporary.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::files::{FileError, InputFile};

    #[test]
    fn only_regular_files_open() {
        let kind = |path| match InputFile::open(Path::new(path)) {
            Err(FileError::NotRegular { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind("/"), "directory");
        assert_eq!(kind("/dev/null"), "device");
    }
}
